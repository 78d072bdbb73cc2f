"""Data: from files to batches, independent of the methods."""
