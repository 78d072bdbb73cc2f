"""Shallow detectors as estimators on arrays: no torch module, no Trainer."""
