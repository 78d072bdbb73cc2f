"""Tables like a user's: sensors, a category, empty cells, and a few rows that an expert marked."""

import numpy as np
import pandas as pd


def parts(
    rows: int = 400, *, scrap: int = 10, good: int = 12, seed: int = 0, bad_parts: int | None = None
) -> pd.DataFrame:
    """Parts with the columns part (name), sensor_0 ..., machine, checked, quality (ok, scrap or empty), truth.

    Without ``bad_parts``, every twelfth part is bad.
    """
    rng = np.random.default_rng(seed)
    bad = np.zeros(rows, bool)
    bad[rng.choice(rows, rows // 12 if bad_parts is None else bad_parts, replace=False)] = True
    x = rng.normal(size=(rows, 4))
    x[bad, :2] += 5
    frame = pd.DataFrame(x, columns=[f"sensor_{i}" for i in range(4)])
    frame.loc[rng.choice(rows, rows // 50, replace=False), "sensor_3"] = np.nan
    frame["machine"] = rng.choice(["A", "B", "C"], rows)
    frame["checked"] = rng.choice([True, False], rows)
    frame.insert(0, "part", [f"P{i:05d}" for i in range(rows)])
    quality = np.full(rows, "", dtype=object)
    quality[rng.choice(np.flatnonzero(bad), scrap, replace=False)] = "scrap"
    quality[rng.choice(np.flatnonzero(~bad), good, replace=False)] = "ok"
    frame["quality"] = quality
    frame["truth"] = np.where(bad, "scrap", "ok")
    return frame
