"""Trials that disturb the commands in every way that a machine, a disk or a person can, and judge what comes of it."""
