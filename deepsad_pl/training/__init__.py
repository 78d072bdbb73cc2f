"""The Trainer of an experiment, its callbacks, and the checks of its checkpoints."""
