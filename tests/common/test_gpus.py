"""GPUs are found without torch, in agreement with torch."""

import pytest
import torch

from deepsad_pl.common.gpus import driver_has_gpu


def test_the_driver_agrees_with_torch() -> None:
    if torch.version.hip is not None:
        pytest.skip("only NVIDIA's driver is asked")
    assert driver_has_gpu() == torch.cuda.is_available()


@pytest.mark.parametrize("hidden", ["", "-1"])
def test_a_hidden_gpu_does_not_count(hidden: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    assert not driver_has_gpu()
