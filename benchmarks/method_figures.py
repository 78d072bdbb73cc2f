"""Draw the figure of each page in docs/methods: the regions that its methods consider normal, in the plane of Figure 1.

A page's methods are those that its headline names. ``python -m benchmarks.method_figures`` draws all of them, and
``python -m benchmarks.method_figures trees hsc`` those of two pages. TabICL, whose weights are
not included, has no figure.
"""

import argparse
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from deepsad_pl import run
from deepsad_pl.report.toy_figure import draw_study

ROOT = Path(__file__).resolve().parents[1]
PAGES = ROOT / "docs" / "methods"
FIGURES = ROOT / "docs" / "figures" / "methods"
# Its weights are not included.
WITHOUT_FIGURE = ("tabicl",)
_POINTS_A_PANEL = 440


def methods_of(page: Path) -> list[str]:
    """The methods that the headline of a page names."""
    return re.findall(r"`([a-z0-9_]+)`", page.read_text(encoding="utf-8").splitlines()[0])


def draw(page: Path, runs: Path, figures: Path) -> Path:
    """Train the methods of a page on the toy data, draw them side by side, and return the path of the PNG."""
    plans = [
        run(
            name,
            "toy",
            ["scenario.normal_class=normal", "scenario.anomaly_class=known"],
            gamma_l=0.05,
            logger="none",
            output_dir=str(runs),
        ).plan
        for name in methods_of(page)
    ]
    with tempfile.TemporaryDirectory() as folder:
        draw_study(Path(folder), plans)
        with Image.open(Path(folder) / "figure.png") as drawn:
            width = _POINTS_A_PANEL * min(len(plans) + 1, 4)
            small = drawn.convert("RGB").resize((width, round(drawn.height * width / drawn.width)))
    figures.mkdir(parents=True, exist_ok=True)
    path = figures / f"{page.stem}.png"
    small.quantize(256, Image.Quantize.FASTOCTREE).save(path, optimize=True)
    return path


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw the figures of the pages named on the command line, or of all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    pages = {path.stem: path for path in sorted(PAGES.glob("*.md")) if path.stem not in WITHOUT_FIGURE}
    parser.add_argument("page", nargs="*", help=f"of {', '.join(pages)}; default: all")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs")
    parser.add_argument("--figures", type=Path, default=FIGURES, help="folder of the figures")
    options = parser.parse_args(arguments)
    if unknown := {*options.page} - {*pages}:
        parser.error(f"there is no page {', '.join(sorted(unknown))}; the pages are {', '.join(pages)}")
    for name in options.page or pages:
        print(draw(pages[name], options.runs, options.figures), flush=True)


if __name__ == "__main__":
    main()
