"""Load data sets, draw training sets and yield batches; nothing here depends on a method."""
