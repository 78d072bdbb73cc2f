"""The Trainer of an experiment, its callbacks and checkpoints."""
