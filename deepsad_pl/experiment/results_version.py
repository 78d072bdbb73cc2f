"""The version of the package's results: it rises when the same settings give other numbers, if only by rounding.

It is not a part of a run's identity, since a finished run remains a valid result of its settings. What has to agree to
the last digit depends on it: a cached autoencoder of an older version is trained again rather than mixed with new
arithmetic, and a row of published results is current only if its version is this one.
"""

from collections.abc import Mapping
from typing import Any

# In a record; without it, the record is of version 1.
VERSION_KEY = "results_version"

# 1: until November 2026. 2: a LeNet's decoder computes its convolutions on the small image when it trains on a CPU.
RESULTS_VERSION = 2


def version_of(record: Mapping[str, Any]) -> int:
    """The version of the package's results that a record has."""
    return int(record.get(VERSION_KEY, 1))
