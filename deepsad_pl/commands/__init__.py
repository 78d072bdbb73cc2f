"""The commands: train.py and sweep.py."""
