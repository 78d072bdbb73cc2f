"""K replicas of a method as one LightningModule."""

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Any, cast

import torch
from torch import Tensor, nn

from deepsad_pl.lightning_api import LightningModule
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

    Attributes:
        weights: the parameters of replica k in row k, shape (K, P); each batch norm has a running mean and a running
            variance of shape (K, C) besides.
        losses: of each step since the list was last emptied, shape (active replicas,) each.
    """

    weights: Tensor
    _objective: Objective
    _adam: StackedAdam

    def __init__(self, modules: Sequence[TrainedMethod]) -> None:
        super().__init__()
        self.automatic_optimization = False
        # A list in a tuple keeps Lightning from taking them for parts of this module.
        self._modules_of = (list(modules),)
        self._shapes = [parameter.shape for parameter in _parameters(modules[0])]
        self._sizes = [shape.numel() for shape in self._shapes]
        self.register_buffer("weights", torch.stack([_flat(_parameters(module)) for module in modules]))
        for number, of_norm in enumerate(zip(*map(_running, modules), strict=True)):
            self.register_buffer(f"statistic_{number}", torch.stack(of_norm))
        self.losses: list[Tensor] = []
        self._resumed: list[dict[str, Tensor]] = []
        self._seen = [int(next(_buffers(module, "num_batches_tracked"), torch.tensor(0))) for module in modules]

    @property
    def replicas(self) -> list[TrainedMethod]:
        """The modules."""
        return self._modules_of[0]

    def resume(self, states: Sequence[dict[str, Tensor]]) -> None:
        """Go on with these states of the optimizer, see :func:`joined_state`."""
        self._resumed = list(states)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """One Adam for all."""
        # The weights are where the Trainer wants them by now.
        schedules = [(module.lr, module.epochs, module.weight_decay) for module in self.replicas]
        self._adam = StackedAdam(self.weights, schedules)
        for row, state in zip(self._adam.rows, self._resumed, strict=False):
            self._adam.state[row] = {key: tensor.clone().to(row.device) for key, tensor in state.items()}
        return self._adam

    def __setattr__(self, name: str, value: Any) -> None:
        """As :class:`~deepsad_pl.methods.base.TrainedMethod` does, for the same reason."""
        if name == "_current_fx_name":
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def on_train_start(self) -> None:
        """Fix the centers that no checkpoint brought, each from the data of its replica."""
        for module, loader in zip(
            self.replicas, cast(StackedLoader, self.trainer.train_dataloader).loaders, strict=True
        ):
            if isinstance(module, HypersphereMethod) and not module.center_is_set:
                module.set_center(loader)
        self._objective = objective_of(self.replicas)
        of_norms = [self.get_buffer(f"statistic_{number}") for number in range(2 * len(_norms(self.replicas[0])))]
        self._statistics = list(zip(of_norms[: len(of_norms) // 2], of_norms[len(of_norms) // 2 :], strict=True))

    def setup(self, stage: str) -> None:
        """Bring the modules to the device."""
        for module in self.replicas:
            module.to(self.trainer.strategy.root_device)

    def on_train_epoch_start(self) -> None:
        """Set the learning rates of this epoch."""
        for group in self._adam.param_groups:
            group["lr"] = lr_at(self.current_epoch, *group["schedule"])
        self._objective.start_epoch(self.current_epoch)

    def transfer_batch_to_device(
        self, batch: Iterator[StackedBatch], device: torch.device, dataloader_idx: int
    ) -> Iterator[StackedBatch]:
        """It is there already."""
        return batch

    def training_step(self, batch: Iterator[StackedBatch], batch_idx: int) -> None:
        """Some steps, each of all replicas that have a batch in it."""
        for x, semi_y, rows in batch:
            self._step(x, semi_y, rows)

    def _step(self, x: Tensor, semi_y: Tensor, rows: Rows) -> None:
        active = len(x)
        # A leaf of its own: the gradient of a slice would be as large as all the weights.
        weights = self.weights[:active].requires_grad_()
        terms = self._objective.terms(self._replicas(weights, rows), x, semi_y)
        # A sum over the replica's rows: the mean over its batch.
        losses = (terms * rows.weight[:, 0]).sum(dim=1)
        # Past Lightning, whose hooks around both would cost more than a step of a small MLP.
        (gradient,) = torch.autograd.grad(losses.sum(), [weights])
        self.losses.append(losses.detach())
        for row, of_row in zip_longest(self._adam.rows, gradient.unbind()):
            row.grad = of_row
        self._adam.step()

    def _replicas(self, weights: Tensor, rows: Rows) -> Replicas:
        split = [
            flat.view(-1, *shape)
            for flat, shape in zip(weights.split_with_sizes(self._sizes, 1), self._shapes, strict=True)
        ]
        active = len(weights)
        return Replicas(split, [(mean[:active], var[:active]) for mean, var in self._statistics], rows)

    @torch.no_grad()
    def unstack(self) -> None:
        """Give each module what it has learned so far."""
        for index, module in enumerate(self.replicas):
            for parameter, flat in zip(
                _parameters(module), self.weights[index].split_with_sizes(self._sizes), strict=True
            ):
                parameter.copy_(flat.view(parameter.shape))
            for number, buffer in enumerate(_running(module)):
                buffer.copy_(self.get_buffer(f"statistic_{number}")[index])
            resumed = int(self._resumed[index]["step"]) if self._resumed else 0
            steps = int(self._adam.state[self._adam.rows[index]]["step"]) - resumed
            for count in _buffers(module, "num_batches_tracked"):
                count.fill_(self._seen[index] + steps)

    def rate(self, index: int) -> float:
        """The learning rate of a replica in this epoch."""
        return lr_at(self.current_epoch, self.replicas[index].lr, self.replicas[index].epochs)

    def optimizer_state(self, index: int) -> dict[int, dict[str, Tensor]]:
        """The state of a replica's Adam, by the number of the parameter, as torch has it trained alone."""
        row = self._adam.state[self._adam.rows[index]]
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
    """The state of Adam for all parameters of a module in one, from that of each by its number."""
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
