"""The slope of the leaky ReLUs. Does not import torch, since it is needed to plan an experiment."""

# For negative inputs; appendix B.
LEAKINESS = 0.1
