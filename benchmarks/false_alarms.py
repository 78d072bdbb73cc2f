"""False-alarm rates of conformal thresholds on the normal test samples of cardio, over many seeds.

    python -m benchmarks.false_alarms [--seeds 50] [--data-dir data] [--pollution 0.05]

Every number is of its own training. Scores are stored in the run folders, so all alphas come from one run.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np

import deepsad_pl
from deepsad_pl.common.calibration_scores import read_calibration
from deepsad_pl.common.thresholds import conformal_threshold, quantile_threshold

ALPHAS = (0.01, 0.05, 0.1)
# Few epochs: the rate must not depend on how good a method is.
METHODS = {
    "deep_sad": ["method.epochs=[5]", "method.lr=[1e-3]", "pretrain.epochs=[5]", "pretrain.lr=[1e-3]"],
    "iforest_raw": [],
    "ocsvm_raw": ["method.selection=none"],
}


def false_alarms(method: str, kind: str, seed: int, given: argparse.Namespace, folder: Path) -> list[float]:
    """Train once; the share of normal test samples above the threshold, for each alpha."""
    words = [f"threshold={kind}", *METHODS[method], f"data_dir={given.data_dir}", "logger=none"]
    words += ["scenario.gamma_l=0.01", f"scenario.gamma_p={given.pollution}"]
    result = deepsad_pl.run(method, "cardio", words, seed=seed, output_dir=folder)
    score, _ = read_calibration(result.run_dir)
    normal = result.scores[result.y == 0].astype(score.dtype)
    threshold = conformal_threshold if kind == "conformal" else quantile_threshold
    return [float((normal > threshold(score, alpha)).mean()) for alpha in ALPHAS]


def main() -> None:
    """Print a table of means and standard errors."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--data-dir", default="data")
    parser.add_argument("--pollution", type=float, default=0.0, help="share of the unlabeled training rows")
    given = parser.parse_args()
    print("| method | threshold | " + " | ".join(f"alpha {alpha}" for alpha in ALPHAS) + " |")
    print("|---|---|" + "---|" * len(ALPHAS))
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("conformal", "quantile"):
            for method in METHODS:
                seeds = range(given.seeds)
                rates = np.array([false_alarms(method, kind, seed, given, Path(folder)) for seed in seeds])
                error = rates.std(axis=0, ddof=1) / np.sqrt(len(rates))
                cells = [f"{mean:.4f} ± {one:.4f}" for mean, one in zip(rates.mean(axis=0), error, strict=True)]
                print(f"| {method} | {kind} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
