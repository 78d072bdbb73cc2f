"""K replicas of a method as one LightningModule."""

from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn

from deepsad_pl.methods.base import TrainedMethod, lr_at
from deepsad_pl.methods.hypersphere import HypersphereMethod
from deepsad_pl.networks.batch_norm import BatchNorm
from deepsad_pl.stacked.adam import StackedAdam
from deepsad_pl.stacked.batch_norm import Rows
from deepsad_pl.stacked.loader import StackedBatch, StackedLoader
from deepsad_pl.stacked.network import Replicas
from deepsad_pl.stacked.objectives import Objective, networks_of, objective_of


class StackedModule(LightningModule):
    """Trains K modules of one kind as each would be trained alone, in one loop.

    Parameters, running statistics and the optimizer's state have a leading dimension of replicas. The modules
    themselves get what was learned with :meth:`unstack`. Every replica keeps its own learning rates, weight decay and
    number of batches; the loss of one has no gradient in another, so that one which turns NaN stays alone.

    Args:
        modules: with one kind of loss, networks of the same shapes and the same number of epochs.
        side_by_side: how many replicas are computed at the same time; None for all.

    Attributes:
        weights: the parameters of replica k in row k, shape (K, P).
        statistics: the running means and variances of all batch norms in row k, shape (K, S).
        losses: of each step since the list was last emptied, shape (active replicas,) each.
    """

    weights: nn.Parameter
    statistics: Tensor
    _objective: Objective

    def __init__(self, modules: Sequence[TrainedMethod], side_by_side: int | None = None) -> None:
        super().__init__()
        self.automatic_optimization = False
        # A list in a tuple keeps Lightning from taking them for parts of this module.
        self._modules_of = (list(modules),)
        self._side_by_side = side_by_side or len(modules)
        self._shapes = [parameter.shape for parameter in _parameters(modules[0])]
        self._sizes = [shape.numel() for shape in self._shapes]
        self._channels = [norm.num_features for norm in _norms(modules[0])]
        self.weights = nn.Parameter(torch.stack([_flat(_parameters(module)) for module in modules]))
        # Not every method has batch norms.
        of_norms = [_flat(_running(module)) if self._channels else torch.zeros(0) for module in modules]
        self.register_buffer("statistics", torch.stack(of_norms))
        self.losses: list[Tensor] = []
        self._decay = [module.weight_decay for module in modules]
        self._resumed: list[dict[str, Tensor]] = []
        self._seen = [int(next(_buffers(module, "num_batches_tracked"), torch.tensor(0))) for module in modules]

    @property
    def replicas(self) -> list[TrainedMethod]:
        """The modules."""
        return self._modules_of[0]

    def resume(self, states: Sequence[dict[str, Tensor]]) -> None:
        """Go on with these states of the optimizer, see :meth:`StackedAdam.row`."""
        self._resumed = list(states)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """One Adam for all."""
        optimizer = StackedAdam(self.weights, weight_decay=self._decay)
        for index, state in enumerate(self._resumed):
            optimizer.load_row(index, state)
        return optimizer

    @property
    def adam(self) -> StackedAdam:
        """The optimizer of the Trainer."""
        optimizer = self.optimizers(use_pl_optimizer=False)
        assert isinstance(optimizer, StackedAdam)
        return optimizer

    def on_train_start(self) -> None:
        """Fix the centers that no checkpoint brought, each from the data of its replica."""
        for module, loader in zip(
            self.replicas, cast(StackedLoader, self.trainer.train_dataloader).loaders, strict=True
        ):
            if isinstance(module, HypersphereMethod) and not module.center_is_set:
                module.set_center(loader)
        self._objective = objective_of(self.replicas)

    def setup(self, stage: str) -> None:
        """Bring the modules to the device."""
        for module in self.replicas:
            module.to(self.trainer.strategy.root_device)

    def on_train_epoch_start(self) -> None:
        """Set the learning rates of this epoch."""
        rates = [lr_at(self.current_epoch, module.lr, module.epochs) for module in self.replicas]
        self.adam.lr = torch.tensor(rates, dtype=torch.float64)
        self._objective.start_epoch(self.current_epoch)

    def transfer_batch_to_device(self, batch: StackedBatch, device: torch.device, dataloader_idx: int) -> StackedBatch:
        """It is there already."""
        return batch

    def training_step(self, batch: StackedBatch, batch_idx: int) -> None:
        """One step of each replica that has a batch."""
        x, semi_y, rows = batch
        active = len(x)
        parts = [slice(i, min(i + self._side_by_side, active)) for i in range(0, active, self._side_by_side)]
        results = [self._backward(x[part], semi_y[part], rows.select(part), part) for part in parts]
        losses, gradients = zip(*results, strict=True)
        self.losses.append(torch.cat(losses) if len(parts) > 1 else losses[0])
        self.adam.gradient = torch.cat(gradients) if len(parts) > 1 else gradients[0]
        self.optimizers().step()  # type: ignore[union-attr]

    def _backward(self, x: Tensor, semi_y: Tensor, rows: Rows, part: slice) -> tuple[Tensor, Tensor]:
        """The losses of some replicas, shape (K,), and their gradients, shape (K, P)."""
        # A leaf of its own: the gradient of a slice would be as large as all the weights.
        weights = self.weights.detach()[part].requires_grad_()
        terms = self._objective.terms(self._replicas(weights, rows, part), x, semi_y, part)
        # A sum over the replica's rows: the mean over its batch.
        losses = (terms * rows.weight[:, 0]).sum(dim=1)
        self.manual_backward(losses.sum())
        assert weights.grad is not None
        return losses.detach(), weights.grad

    def _replicas(self, weights: Tensor, rows: Rows, part: slice) -> Replicas:
        split = [
            flat.view(-1, *shape)
            for flat, shape in zip(weights.split_with_sizes(self._sizes, 1), self._shapes, strict=True)
        ]
        statistics = self.statistics[part, None].split_with_sizes(self._channels * 2, dim=2)
        norms = len(self._channels)
        return Replicas(split, list(zip(statistics[:norms], statistics[norms:], strict=True)), rows)

    @torch.no_grad()
    def unstack(self) -> None:
        """Give each module what it has learned so far."""
        steps = self.adam.steps
        for index, module in enumerate(self.replicas):
            for parameter, flat in zip(
                _parameters(module), self.weights[index].split_with_sizes(self._sizes), strict=True
            ):
                parameter.copy_(flat.view(parameter.shape))
            for buffer, flat in zip(
                _running(module), self.statistics[index].split_with_sizes(self._channels * 2), strict=True
            ):
                buffer.copy_(flat)
            for count in _buffers(module, "num_batches_tracked"):
                count.fill_(self._seen[index] + steps[index] - self._resumed_steps(index))

    def _resumed_steps(self, index: int) -> int:
        return int(self._resumed[index]["step"]) if self._resumed else 0

    def optimizer_state(self, index: int) -> dict[int, dict[str, Tensor]]:
        """The state of a replica's Adam, by the number of the parameter, as torch has it."""
        row = self.adam.row(index)
        parts = {key: row[key].split_with_sizes(self._sizes) for key in ("exp_avg", "exp_avg_sq")}
        return {
            number: {
                "step": row["step"].clone(),
                # In the memory format of the parameter, which torch's fused Adam takes for granted.
                **{key: torch.empty_like(parameter).copy_(parts[key][number].view_as(parameter)) for key in parts},
            }
            for number, parameter in enumerate(map(torch.detach, _parameters(self.replicas[index])))
        }


def joined_state(state: dict[int, dict[str, Tensor]]) -> dict[str, Tensor]:
    """What :meth:`StackedAdam.load_row` takes, from a state of torch's Adam."""
    joined = {key: _flat([state[number][key] for number in sorted(state)]) for key in ("exp_avg", "exp_avg_sq")}
    return {"step": state[0]["step"], **joined}


def _parameters(module: TrainedMethod) -> list[nn.Parameter]:
    return [parameter for network in networks_of(module) for parameter in network.parameters()]


def _norms(module: TrainedMethod) -> list[BatchNorm]:
    return [norm for network in networks_of(module) for norm in network.modules() if isinstance(norm, BatchNorm)]


def _running(module: TrainedMethod) -> list[Tensor]:
    """The running means of all batch norms, then their variances."""
    return [*_buffers(module, "running_mean"), *_buffers(module, "running_var")]


def _buffers(module: TrainedMethod, name: str) -> Iterator[Tensor]:
    return (norm.get_buffer(name) for norm in _norms(module))


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().reshape(-1) for tensor in tensors])


def signature(module: TrainedMethod) -> tuple[Any, ...]:
    """What modules of one stack have in common: the shapes of parameters, the number of epochs."""
    return str(networks_of(module)), sum(module.epochs)
