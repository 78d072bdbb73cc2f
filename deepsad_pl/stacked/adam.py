"""Adam for many replicas in one tensor, each with its own learning rate, weight decay and number of steps."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


class StackedAdam(torch.optim.Optimizer):
    """Adam, with L2 regularization, on a parameter of shape (K, P): row k as torch's Adam would move it alone.

    Args:
        parameter: of all replicas, shape (K, P).
        weight_decay: lambda of each replica, >= 0.
        betas: decay of the running averages.
        eps: in the denominator.

    Attributes:
        lr: the learning rate of each replica, set by whoever keeps the schedule.
        gradient: of the replicas that take part in the next step, always the first ones, shape (active, P); all others
            stay as they are. It is used up by the step.
    """

    def __init__(
        self,
        parameter: Tensor,
        *,
        weight_decay: Sequence[float],
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        super().__init__([parameter], {"betas": betas, "eps": eps})
        count = len(parameter)
        self.lr = torch.zeros(count, dtype=torch.float64)
        self.gradient: Tensor | None = None
        self._steps = torch.zeros(count, dtype=torch.float64)
        self._decay = torch.tensor(weight_decay, dtype=parameter.dtype, device=parameter.device)[:, None]
        self._average, self._square = torch.zeros_like(parameter), torch.zeros_like(parameter)

    @property
    def steps(self) -> list[int]:
        """How many each replica has taken."""
        return [int(count) for count in self._steps]

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Move the active replicas along their gradients.

        Args:
            closure: called first, if there is one.
        """
        if closure is not None:
            with torch.enable_grad():
                closure()  # of Lightning, which does nothing
        (group,) = self.param_groups
        grad, self.gradient = self.gradient, None
        assert grad is not None
        (beta1, beta2), part = group["betas"], slice(len(grad))
        self._steps[part] += 1
        # On the CPU in double precision, as torch's Adam has them, in one transfer.
        steps = self._steps[part]
        scale = torch.stack([-self.lr[part] / (1 - beta1**steps), (1 - beta2**steps).rsqrt()]).to(
            grad.device, grad.dtype, non_blocking=True
        )
        weights, average, square = (tensor[part] for tensor in (group["params"][0], self._average, self._square))
        grad.addcmul_(weights, self._decay[part])
        average.lerp_(grad, 1 - beta1)
        square.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
        denominator = torch.sqrt(square, out=grad).mul_(scale[1][:, None]).add_(group["eps"])
        weights.addcdiv_(average * scale[0][:, None], denominator)

    def row(self, index: int) -> dict[str, Tensor]:
        """The state of a replica: ``step``, ``exp_avg`` and ``exp_avg_sq`` of shape (P,), as torch's Adam names it."""
        return {
            "step": self._steps[index].float().clone(),
            "exp_avg": self._average[index].clone(),
            "exp_avg_sq": self._square[index].clone(),
        }

    def load_row(self, index: int, state: dict[str, Tensor]) -> None:
        """Take over the state of a replica, as :meth:`row` gives it."""
        self._steps[index] = float(state["step"])
        self._average[index] = state["exp_avg"]
        self._square[index] = state["exp_avg_sq"]
