"""Methods that are trained and score samples, independent of where the data come from."""
