"""Trials that disturb the commands in the ways that a machine, a disk or a person can, and judge the outcome."""
