"""Deep anomaly detection methods as Lightning modules; nothing here depends on where the data come from."""
