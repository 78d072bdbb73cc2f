"""The toy data of the paper's Figure 1: normal rows in two moons, one known and two novel classes of anomalies.

The known anomalies lie in the hollow between the moons, where a description of the normal rows alone that is smooth
takes them in; the novel ones lie beyond the moons at the bottom left and at the bottom right, where nothing is known.
"""

import numpy as np
import numpy.typing as npt

CLASSES = ("normal", "known", "novel_left", "novel_right")

# Rows of both parts together. As many anomalies of a class as half of the normals lets gamma_l and gamma_p reach .2.
NORMALS, ANOMALIES = 1000, 300
MOON_NOISE = 0.08

# Of a class of anomalies: a round Gaussian.
CENTERS = {"known": (1.45, 0.35), "novel_left": (-0.75, -0.75), "novel_right": (2.25, -0.95)}
CLUSTER_STD = 0.1


def toy_table(seed: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Rows and classes; another seed draws other rows of the same distribution.

    Args:
        seed: determines every draw, in [0, 2^32).

    Returns:
        X, shape (1900, 2), and the index in :data:`CLASSES` of every row, shape (1900,), class after class.
    """
    from sklearn.datasets import make_moons

    rng = np.random.default_rng(seed)
    moons, _ = make_moons(NORMALS, noise=MOON_NOISE, random_state=int(rng.integers(2**32)))
    clusters = [rng.normal(CENTERS[name], CLUSTER_STD, (ANOMALIES, 2)) for name in CLASSES[1:]]
    x = np.concatenate([moons, *clusters])
    return x, np.repeat(np.arange(len(CLASSES)), [NORMALS, *(len(cluster) for cluster in clusters)])
