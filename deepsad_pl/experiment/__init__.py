"""One experiment: plan, identity, data and modules, training, scores, record."""
