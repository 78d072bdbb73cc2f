"""Print the mean ranks of a benchmark on the console."""

from pathlib import Path

import pandas as pd
from rich.markup import escape
from rich.table import Table

from deepsad_pl.common.console import console
from deepsad_pl.common.counting import counted


def show_ranks(title: str, folder: Path) -> None:
    """Print the mean rank of each method for each number of labeled anomalies, and the report's folder.

    Args:
        title: title of the report.
        folder: folder with the files of :func:`deepsad_pl.report.ranks_page.write_ranks`.
    """
    ranks = pd.read_csv(folder / "ranks.csv", dtype={"labels": str})
    heads = []
    for labels, found in ranks.groupby("labels", sort=False):
        name = counted(int(str(labels)), "label") if str(labels).isdecimal() else str(labels)
        heads.append((str(labels), f"{name}\n{counted(int(found['datasets'].iloc[0]), 'data set')}"))
    wide = ranks.pivot(index="heading", columns="labels", values="rank")
    wide = wide.loc[list(dict.fromkeys(ranks["heading"]))].sort_values(heads[-1][0], kind="stable")
    table = Table("mean rank", *(head for _, head in heads), title=escape(title))
    for heading, row in wide.iterrows():
        table.add_row(escape(str(heading)), *(_number(row[labels]) for labels, _ in heads))
    console.print(table)
    console.print(f"report: {folder / 'report.html'}", markup=False, soft_wrap=True)


def _number(value: float) -> str:
    return "-" if pd.isna(value) else f"{value:.2f}"
