"""The commands (``train.py``, ``sweep.py``, ``score.py``, ``export.py``) and the Python API."""
