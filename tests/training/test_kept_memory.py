"""While a training keeps its memory, steps do not ask the system for it; afterwards it is given back."""

import json
import os
import platform
import subprocess
import sys

import pytest

from deepsad_pl.training import kept_memory

# The page faults of a step, outside and inside the context, and the resident megabytes while in it and after it.
SCRIPT = """
import json, os, resource, sys
import torch
from deepsad_pl.training.kept_memory import kept_memory

torch.set_num_threads(1)

def faults(steps=20):
    def step():
        parts = [torch.ones(3, 2**20) for _ in range(8)]  # 96 MB
        del parts
    step()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(steps):
        step()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / steps

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

outside = faults()
with kept_memory():
    inside, kept = faults(), resident()
print(json.dumps([outside, inside, kept, resident()]))
"""


def measured(**env: str) -> list[float]:
    clean = {name: value for name, value in os.environ.items() if name not in kept_memory._BY_USER}
    found = subprocess.run(
        [sys.executable, "-c", SCRIPT], env={**clean, **env}, capture_output=True, text=True, check=True
    )
    return list(json.loads(found.stdout))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_steps_reuse_their_memory_and_it_is_given_back() -> None:
    outside, inside, kept, after = measured()
    assert outside > 1000
    assert inside < outside / 20
    assert after < kept - 60


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_an_allocator_that_the_user_has_configured_is_left_alone() -> None:
    outside, inside, _, _ = measured(MALLOC_TRIM_THRESHOLD_="1000000")
    assert outside > 1000
    assert inside > outside / 2


def test_without_glibc_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_memory, "_glibc", lambda: None)
    with kept_memory.kept_memory():
        pass
    with pytest.raises(ZeroDivisionError), kept_memory.kept_memory():
        _ = 1 / 0
