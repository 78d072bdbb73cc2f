"""The toy data of the paper's Figure 1: normal rows in two moons, one known and two novel classes of anomalies.

The known anomalies lie between the moons, where a smooth description of the normal rows alone would include them. The
novel anomalies lie beyond the moons, at the bottom left and the bottom right, far from all normal and known rows.
"""

import numpy as np
import numpy.typing as npt

CLASSES = ("normal", "known", "novel_left", "novel_right")

# Rows of the training and the test part together; a class has enough anomalies for gamma_l or gamma_p up to .2.
NORMALS, ANOMALIES = 1000, 300
MOON_NOISE = 0.08

# Each class of anomalies is an isotropic Gaussian.
CENTERS = {"known": (1.45, 0.35), "novel_left": (-0.75, -0.75), "novel_right": (2.25, -0.95)}
CLUSTER_STD = 0.1


def toy_table(seed: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Draw the rows and their classes; another seed draws other rows from the same distribution.

    Args:
        seed: determines every draw, in [0, 2^32).

    Returns:
        X, shape (1900, 2), and the index of each row's class in :data:`CLASSES`, shape (1900,); sorted by class.
    """
    from sklearn.datasets import make_moons

    rng = np.random.default_rng(seed)
    moons, _ = make_moons(NORMALS, noise=MOON_NOISE, random_state=int(rng.integers(2**32)))
    clusters = [rng.normal(CENTERS[name], CLUSTER_STD, (ANOMALIES, 2)) for name in CLASSES[1:]]
    x = np.concatenate([moons, *clusters])
    return x, np.repeat(np.arange(len(CLASSES)), [NORMALS, *(len(cluster) for cluster in clusters)])
