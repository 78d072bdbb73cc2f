"""The commands ``train.py`` and ``sweep.py``, and the Python API."""
