"""Running one experiment: its plan and identity, data and modules, training, scores and record."""
