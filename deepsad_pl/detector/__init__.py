"""A trained detector: its folder in the run, what it takes as input, and scoring new data with it."""
