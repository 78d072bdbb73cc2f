"""Deep semi-supervised anomaly detection (Deep SAD) with PyTorch Lightning and Hydra."""

__version__ = "0.1.0"
