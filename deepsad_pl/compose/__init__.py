"""Compose settings from a command line with Hydra, and reject what the configuration does not declare."""
