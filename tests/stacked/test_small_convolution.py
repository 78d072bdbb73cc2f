"""The GPU kernels for small convolutions, run by triton's interpreter, against torch's convolution."""

import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from processes import ROOT

from deepsad_pl.stacked import small_convolution as kernels
from deepsad_pl.stacked.replica_norm import Rows, norm_and_leaky_relu, norm_and_leaky_relu_of_maps

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
# Triton reads the variable when it is imported.
can_run = pytest.mark.skipif(DEVICE == "cpu" and "TRITON_INTERPRET" not in os.environ, reason="run in another process")


@pytest.mark.slow
@pytest.mark.skipif(not kernels.HAS_TRITON, reason="no triton here")
@pytest.mark.skipif(DEVICE == "cuda", reason="run as they are")
def test_the_kernels_are_correct_in_the_interpreter() -> None:
    line = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-k",
        "small_convolution_agrees or needs_none",
        __file__,
    ]
    done = subprocess.run(line, env=os.environ | {"TRITON_INTERPRET": "1"}, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "5 passed" in done.stdout


@can_run
@pytest.mark.parametrize(
    ("replicas", "channels", "filters", "size", "padding", "shape", "batch"),
    [(3, 1, 8, 5, 2, (9, 12), 3), (2, 2, 3, 3, 1, (4, 5), 19), (2, 3, 1, 3, 1, (5, 5), 2), (1, 2, 3, 5, 4, (4, 3), 1)],
)
def test_a_small_convolution_agrees_with_torch(
    replicas: int,
    channels: int,
    filters: int,
    size: int,
    padding: int,
    shape: tuple[int, int],
    batch: int,
) -> None:
    torch.manual_seed(0)
    x = torch.randn(batch, replicas * channels, *shape, device=DEVICE, requires_grad=True)
    w = torch.randn(replicas * filters, channels, size, size, device=DEVICE, requires_grad=True)
    found = kernels.small_convolution(x, w, padding, replicas)
    expected = F.conv2d(x.double(), w.double(), padding=padding, groups=replicas)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
    direction = torch.randn_like(found)
    of_found = torch.autograd.grad((found * direction).sum(), [x, w])
    of_expected = torch.autograd.grad((expected * direction.double()).sum(), [x, w])
    torch.testing.assert_close(of_found, of_expected, rtol=1e-4, atol=1e-4)


@can_run
def test_the_gradient_of_an_input_that_needs_none_is_not_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(2, 2, 4, 4, device=DEVICE)
    w = torch.randn(2, 1, 3, 3, device=DEVICE, requires_grad=True)
    y = kernels.small_convolution(x, w, 1, 2)
    monkeypatch.setattr(kernels, "_convolved", lambda *_: pytest.fail("computed"))
    (gradient,) = torch.autograd.grad(y.sum(), [w])
    assert gradient.shape == w.shape


def test_on_a_cpu_torch_convolves() -> None:
    x, w = torch.randn(2, 4, 6, 6), torch.randn(6, 2, 3, 3)
    assert not kernels.pays(x, w)
    found = kernels.grouped_convolution(x, w, (1, 1), 2)
    torch.testing.assert_close(found, F.conv2d(x, w, padding=1, groups=2))


@pytest.mark.parametrize("slope", [0.1, 1.0])
def test_both_memory_layouts_are_normalized_alike(slope: float) -> None:
    torch.manual_seed(0)
    sizes, channels, height, width = (3, 2), 4, 3, 2
    x = torch.randn(3, 2 * channels, height, width, dtype=torch.float64, requires_grad=True)
    rows = Rows.of(sizes, x)
    y, mean, var, unbiased = norm_and_leaky_relu_of_maps(x, rows, eps=1e-4, slope=slope)
    flat = x.permute(0, 2, 3, 1).reshape(3 * height * width, 2, channels).transpose(0, 1)
    repeated = rows.repeated(height * width)
    expected, of_mean, of_var = norm_and_leaky_relu(flat, repeated, eps=1e-4, slope=slope)
    as_maps = expected.transpose(0, 1).reshape(3, height, width, -1).permute(0, 3, 1, 2)
    counts = torch.ones(3, 2 * channels, 1, 1, dtype=torch.float64)
    counts[2, channels:] = 0  # padding
    torch.testing.assert_close(y * counts, as_maps * counts)
    torch.testing.assert_close(mean, of_mean[:, 0])
    torch.testing.assert_close(var, of_var[:, 0])
    torch.testing.assert_close(unbiased, repeated.unbiased[:, 0])
    direction = torch.randn_like(y) * counts
    (found,) = torch.autograd.grad((y * direction).sum(), [x], retain_graph=True)
    (wanted,) = torch.autograd.grad((as_maps * direction).sum(), [x])
    torch.testing.assert_close(found, wanted)


def test_a_machine_that_cannot_compile_kernels_uses_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    monkeypatch.setattr(kernels, "HAS_TRITON", True)
    monkeypatch.setattr(kernels, "missing_for_compiling", lambda on_gpu: None)

    def can() -> bool:
        kernels._can_run.cache_clear()
        return kernels._can_run(torch.device("cuda"))

    try:
        assert can() is (torch.version.hip is None)
        for module, name, value in (
            (kernels, "missing_for_compiling", lambda on_gpu: "a C compiler"),
            (kernels, "HAS_TRITON", False),
            (torch.version, "hip", "6.4"),
            (torch.cuda, "get_device_capability", lambda _: (7, 5)),
        ):
            with monkeypatch.context() as patch:
                patch.setattr(module, name, value)
                assert not can()
    finally:
        kernels._can_run.cache_clear()
