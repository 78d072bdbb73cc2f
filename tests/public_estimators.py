"""The package's estimators by name, and by the method that they train."""

import itertools

import deepsad_pl
from deepsad_pl.estimators.estimator import CHOICES, Estimator

# TabICL needs a file.
_PUBLIC = (getattr(deepsad_pl, name) for name in deepsad_pl.__all__ if name != "TabICL")
ESTIMATORS: dict[str, type[Estimator]] = {
    found.__name__: found for found in _PUBLIC if isinstance(found, type) and issubclass(found, Estimator)
}
# The parameters that choose between methods.
_CHOOSING = ("features", "variant")


def made(kind: type[Estimator]) -> list[Estimator]:
    """The estimator with each value of a parameter that chooses between methods."""
    names = [name for name in _CHOOSING if name in kind().get_params()]
    combinations = itertools.product(*(CHOICES[name] for name in names))
    return [kind(**dict(zip(names, values, strict=True))) for values in combinations]


BY_METHOD = {one._method(): one for kind in ESTIMATORS.values() for one in made(kind)}
