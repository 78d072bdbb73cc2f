"""A LightningModule that trains K replicas of a method at once."""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import zip_longest
from typing import Any, cast

import torch
from torch import Tensor, nn

from deepsad_pl.common.lightning_api import LightningModule
from deepsad_pl.methods.base import TrainedMethod, lr_at
from deepsad_pl.methods.hypersphere import HypersphereMethod
from deepsad_pl.stacked.adam import StackedAdam
from deepsad_pl.stacked.forms import kind_of
from deepsad_pl.stacked.objectives import Objective, trained_parameters
from deepsad_pl.stacked.replica_loader import StackedBatch, StackedLoader
from deepsad_pl.stacked.replica_norm import Rows
from deepsad_pl.stacked.steps import NotVectorizedError


class StackedModule(LightningModule):
    """Trains K modules of one kind in one loop, each as it would be trained alone.

    Parameters, buffers and the optimizer's state have a leading replica dimension; :meth:`unstack` copies them into the
    modules. Every replica keeps its own learning rates, weight decay and number of batches. No gradient flows between
    replicas, so a replica whose loss becomes NaN does not affect the others.

    Args:
        modules: modules of one kind (see :func:`~deepsad_pl.stacked.forms.kind_of`), with equal numbers of epochs.

    Attributes:
        weights: parameters of replica k in row k, shape (K, P).
        losses: losses of each step since the list was last emptied, shape (active replicas,) each.
    """

    weights: Tensor
    _objective: Objective
    _adam: StackedAdam

    def __init__(self, modules: Sequence[TrainedMethod]) -> None:
        super().__init__()
        self.automatic_optimization = False
        # A list inside a tuple, so that the modules are not registered as submodules.
        self._modules_of = (list(modules),)
        self._sizes = [parameter.numel() for parameter in _parameters(modules[0])]
        self.register_buffer("weights", torch.stack([_flat(_parameters(module)) for module in modules]))
        self._buffers_of: dict[str, Tensor] = {}
        self.losses: list[Tensor] = []
        self._resumed: list[dict[str, Tensor]] = []

    @property
    def replicas(self) -> list[TrainedMethod]:
        """The stacked modules."""
        return self._modules_of[0]

    def resume(self, states: Sequence[dict[str, Tensor]]) -> None:
        """Resume from these optimizer states, one per replica, see :func:`joined_state`."""
        self._resumed = list(states)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Create one Adam for all replicas."""
        # By now the Trainer has moved the weights to their device.
        schedules = [(module.lr, module.epochs, module.weight_decay) for module in self.replicas]
        self._adam = StackedAdam(self.weights, schedules)
        for row, state in zip(self._adam.rows, self._resumed, strict=False):
            self._adam.state[row] = {key: tensor.clone().to(row.device) for key, tensor in state.items()}
        return self._adam

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute as :class:`~deepsad_pl.methods.base.TrainedMethod` does, for the same reason."""
        if name == "_current_fx_name":
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def on_train_start(self) -> None:
        """Prepare what was not loaded from a checkpoint, such as centers, each from the data of its replica."""
        loader = cast(StackedLoader, self.trainer.train_dataloader)
        for module, of_replica in zip(self.replicas, loader.loaders, strict=True):
            if isinstance(module, HypersphereMethod):
                module.prepare(partial(iter, of_replica))
        self._objective = kind_of(self.replicas[0]).form(self.replicas)
        named = [dict(module.named_buffers()) for module in self.replicas]
        # Not all have the unit of distances (eta_scale=initial), a constant that the objective has from the modules.
        shared = [name for name in named[0] if all(name in buffers for buffers in named)]
        self._buffers_of = {name: torch.stack([buffers[name] for buffers in named]) for name in shared}
        self._objective.start_epoch(self.current_epoch)
        self._objective.check(self.weights, self._buffers_of, loader)

    def setup(self, stage: str) -> None:
        """Move the modules to the device and set them to training mode."""
        for module in self.replicas:
            module.to(self.trainer.strategy.root_device).on_fit_start()

    def on_train_epoch_start(self) -> None:
        """Set the learning rates of this epoch."""
        for group in self._adam.param_groups:
            group["lr"] = lr_at(self.current_epoch, *group["schedule"])
        self._objective.start_epoch(self.current_epoch)

    def transfer_batch_to_device(
        self, batch: Iterator[StackedBatch], device: torch.device, dataloader_idx: int
    ) -> Iterator[StackedBatch]:
        """Return the batch as it is, since it is already on the device."""
        return batch

    def training_step(self, batch: Iterator[StackedBatch], batch_idx: int) -> None:
        """Train a chunk of steps, each with all replicas that have a batch in it."""
        for x, semi_y, rows in batch:
            self._step(x, semi_y, rows)

    def _step(self, x: Tensor, semi_y: Tensor, rows: Rows) -> None:
        active = len(x)
        # Make the slice a leaf: the gradient of a non-leaf slice would be as large as all the weights.
        weights = self.weights[:active].requires_grad_()
        terms = self._objective.terms(weights, self._buffers_of, rows, x, semi_y)
        # The weighted sum over a replica's rows is the mean over its batch.
        losses = (terms * rows.weight[:, 0]).sum(dim=1)
        # Bypasses Lightning, whose hooks around backward and step would cost more than a small MLP's step.
        (gradient,) = torch.autograd.grad(losses.sum(), [weights])
        self.losses.append(losses.detach())
        for row, of_row in zip_longest(self._adam.rows, gradient.unbind()):
            row.grad = of_row
        self._adam.step()

    @torch.no_grad()
    def unstack(self) -> None:
        """Copy the trained parameters and buffers into the modules."""
        for index, module in enumerate(self.replicas):
            for parameter, flat in zip(
                _parameters(module), self.weights[index].split_with_sizes(self._sizes), strict=True
            ):
                parameter.copy_(flat.view(parameter.shape))
            resumed = int(self._resumed[index]["step"]) if self._resumed else 0
            steps = int(self._adam.state[self._adam.rows[index]]["step"]) - resumed
            buffers = dict(module.named_buffers())
            for name, of_replicas in self._buffers_of.items():
                buffer = buffers[name]
                buffer.copy_(of_replicas[index])
                if name.endswith("num_batches_tracked") and not self._objective.counts_batches:
                    buffer.add_(steps)

    def rate(self, index: int) -> float:
        """The learning rate of a replica in this epoch."""
        return lr_at(self.current_epoch, self.replicas[index].lr, self.replicas[index].epochs)

    def optimizer_state(self, index: int) -> dict[int, dict[str, Tensor]]:
        """A replica's Adam state by parameter number, as torch would have it for a single training."""
        row = self._adam.state[self._adam.rows[index]]
        parts = {key: row[key].split_with_sizes(self._sizes) for key in ("exp_avg", "exp_avg_sq")}
        return {
            number: {
                "step": row["step"].clone(),
                # Use the memory format of the parameter, which torch's fused Adam assumes.
                **{key: torch.empty_like(parameter).copy_(parts[key][number].view_as(parameter)) for key in parts},
            }
            for number, parameter in enumerate(map(torch.detach, _parameters(self.replicas[index])))
        }


def joined_state(state: dict[int, dict[str, Tensor]], module: TrainedMethod) -> dict[str, Tensor]:
    """Join the Adam states of a module's parameters, given by parameter number, into one flat state.

    Raises:
        NotVectorizedError: if a parameter has no state because it never had a gradient.
    """
    if len(state) < len(_parameters(module)):
        raise NotVectorizedError("they give a parameter no gradient")
    joined = {key: _flat([state[number][key] for number in sorted(state)]) for key in ("exp_avg", "exp_avg_sq")}
    return {"step": state[0]["step"], **joined}


def _parameters(module: TrainedMethod) -> list[nn.Parameter]:
    return list(trained_parameters(module).values())


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().reshape(-1) for tensor in tensors])
