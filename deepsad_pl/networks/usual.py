"""The usual values of settings that networks did not always have. Imports no torch: plans need them."""

from collections.abc import Mapping
from typing import Any

# The slope of the leaky ReLUs for negative inputs; appendix B.
LEAKINESS = 0.1
# Earlier runs have these values without naming them.
USUAL: Mapping[str, Any] = {"leakiness": LEAKINESS, "initial_weights": "glorot"}
