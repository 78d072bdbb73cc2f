"""Train many experiments at once, with a leading replica dimension on parameters, buffers, Adam's state and batches."""
