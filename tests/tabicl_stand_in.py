"""A package ``tabicl`` with the interface of the real one, whose weights are an ``.npz`` file with a temperature."""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest

MODULE = '''
import numpy as np

class TabICLClassifier:
    """Distance to the mean of each class, in units of the temperature."""

    def __init__(self, *, n_estimators, model_path, allow_auto_download, device, random_state):
        assert allow_auto_download is False and device == "cpu"
        self.n_estimators, self.model_path, self.random_state = n_estimators, model_path, random_state

    def fit(self, x, y):
        self._temperature = float(np.load(self.model_path)["temperature"]) + self.random_state % 1009 / 1000
        self._means = [x[y == label].mean(axis=0) for label in (0, 1)]
        return self

    def predict_proba(self, x):
        far = [((x - mean) ** 2).mean(axis=1) for mean in self._means]
        positive = 1 / (1 + np.exp(-(far[0] - far[1]) / self._temperature))
        return np.stack([1 - positive, positive], axis=1)
'''


def install_stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put the package in the place of the real one; return the file of its weights."""
    path = folder / "tabicl.py"
    path.write_text(MODULE)
    spec = spec_from_file_location("tabicl", path)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setitem(sys.modules, "tabicl", module)
    np.savez(folder / "weights.npz", temperature=2.0)
    return folder / "weights.npz"
