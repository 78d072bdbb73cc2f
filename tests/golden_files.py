"""Golden files: present results of the code, kept in ``tests/golden``, so that every change of them is noticed.

    .venv/bin/python -m pytest tests/*/test_golden_*.py --write-golden

rewrites them. A golden value may change only on purpose, in a separate commit that gives the reason.
"""

import csv
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).with_name("golden")
DATASETS = ("digits", "cardio", "mnist", "toy", "image_folder")
# Named here, so that they stay pinned independently of the list in the code.
METHODS = (
    *("deep_sad", "deep_svdd", "soft_boundary_svdd", "autoencoder", "classifier", "ss_dgm_m2", "ss_dgm_m1m2"),
    *("ocsvm_raw", "ocsvm_hybrid", "iforest_raw", "iforest_hybrid", "kde_raw", "kde_hybrid"),
    *("ssad_raw", "ssad_hybrid"),
)


@dataclass(frozen=True)
class GoldenFiles:
    """The golden files, to compare with or to rewrite.

    Attributes:
        write: whether they are rewritten.
    """

    write: bool

    def check(self, name: str, found: Mapping[str, Sequence[str]]) -> None:
        """Check that sections of lines agree with those of a file; a failure shows the difference.

        Args:
            name: name of the file.
            found: the lines of each section, by its title.
        """
        lines = [line for title, under in found.items() for line in (title, *(f"    {text}" for text in under))]
        if self.write:
            FOLDER.mkdir(exist_ok=True)
            (FOLDER / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        kept = (FOLDER / name).read_text(encoding="utf-8").splitlines()
        # The whole section, so that its title shows what a changed line belongs to.
        context = max(map(len, found.values()))
        difference = "\n".join(difflib.unified_diff(kept, lines, name, "now", lineterm="", n=context))
        assert not difference, f"tests/golden/{name} says otherwise; see tests/golden_files.py\n{difference}"

    def columns(self, name: str, found: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
        """The columns of a CSV file, by their names.

        Args:
            name: name of the file.
            found: the present values, which are written if the files are rewritten.
        """
        if self.write:
            FOLDER.mkdir(exist_ok=True)
            with (FOLDER / name).open("w", newline="") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerows([list(found), *zip(*found.values(), strict=True)])
        with (FOLDER / name).open(newline="") as file:
            header, *rows = csv.reader(file)
        return {column: list(values) for column, values in zip(header, zip(*rows, strict=True), strict=True)}
