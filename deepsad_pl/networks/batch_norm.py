"""Batch normalization over the global batch, on one process or many, on any device."""

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.nn.modules.batchnorm import _BatchNorm


class _SumOverRanks(torch.autograd.Function):
    """Sum a tensor over all ranks; in the backward pass the gradients are summed over all ranks too."""

    @staticmethod
    def forward(ctx: FunctionCtx, tensor: Tensor) -> Tensor:
        total = tensor.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: FunctionCtx, *grad_outputs: Tensor) -> Tensor:
        grad = grad_outputs[0].clone()
        dist.all_reduce(grad)
        return grad


def sum_over_ranks(tensor: Tensor) -> Tensor:
    """The sum of a tensor over all ranks, differentiable."""
    total: Tensor = _SumOverRanks.apply(tensor)
    return total


class BatchNorm(_BatchNorm):
    """Batch normalization without learned scale and shift (a shift would be a bias term in phi, appendix A).

    Under torch.distributed the statistics are computed over the global batch, so a run on several ranks takes the same
    steps as a run on one. (torch's own SyncBatchNorm refuses CPU tensors.) The input is (B, C) or (B, C, H, W).

    Args:
        num_features: C, the number of channels.
        eps: added to the variance; 1e-4 as in the authors' code.
    """

    def __init__(self, num_features: int, eps: float = 1e-4) -> None:
        super().__init__(num_features, eps=eps, affine=False)

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() not in (2, 4):
            raise ValueError(f"expected a (B, C) or (B, C, H, W) input, got {input.dim()} dimensions")

    def forward(self, input: Tensor) -> Tensor:
        """Normalize each channel; the output has the input's shape."""
        if not (self.training and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
            return super().forward(input)
        return self._forward_synced(input)

    def _forward_synced(self, input: Tensor) -> Tensor:
        self._check_input_dim(input)
        dims = [d for d in range(input.dim()) if d != 1]
        shape = [1, -1] + [1] * (input.dim() - 2)
        x = input.float() if input.dtype in (torch.float16, torch.bfloat16) else input
        size = x.new_tensor([x.numel() / x.shape[1]])
        total = sum_over_ranks(torch.cat([x.sum(dims), size]))
        count = total[-1].detach()
        mean = total[:-1] / count
        centered = x - mean.view(shape)
        # Two passes: the one-pass formula E[x^2] - E[x]^2 loses digits that a single process keeps.
        var = sum_over_ranks(centered.square().sum(dims)) / count
        with torch.no_grad():
            assert self.running_mean is not None and self.running_var is not None and self.momentum is not None
            self.running_mean.lerp_(mean.detach().to(self.running_mean.dtype), self.momentum)
            unbiased = var.detach() * (count / (count - 1).clamp(min=1))
            self.running_var.lerp_(unbiased.to(self.running_var.dtype), self.momentum)
            assert self.num_batches_tracked is not None
            self.num_batches_tracked.add_(1)
        normalized: Tensor = centered * (var + self.eps).rsqrt().view(shape)
        return normalized.to(input.dtype)
