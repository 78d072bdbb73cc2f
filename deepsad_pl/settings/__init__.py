"""The types of the configuration and the checks of its values. Does not import torch."""
