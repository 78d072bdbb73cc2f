"""Many experiments as one training: a leading replica dimension on parameters, buffers, optimizer state and batches."""
