"""The page about the estimators does what it says."""

import re

import pytest
from processes import ROOT
from public_estimators import ESTIMATORS

PAGE = (ROOT / "docs" / "estimators.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_code_blocks_of_the_page_run_in_turn() -> None:
    blocks, namespace = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL), dict[str, object]()
    assert len(blocks) == 3
    for block in blocks:
        exec(compile(block, "docs/estimators.md", "exec"), namespace)
    detector, x = namespace["detector"], namespace["X"]
    assert (detector.predict(x[:50]) == -1).mean() > 0.7  # type: ignore[attr-defined, index]
    assert {0, 1, 3, 4} <= {*namespace["alarms"].index}  # type: ignore[attr-defined]
    assert namespace["search"].best_score_ > 0.5  # type: ignore[attr-defined]


def test_the_page_names_all_estimators_and_all_parameters() -> None:
    assert all(f"`{name}`" in PAGE for name in ESTIMATORS)
    table = PAGE.split("| parameter | meaning |")[1].split("\n\n")[0]
    shared = {*ESTIMATORS["DeepSAD"]().get_params()} & {*ESTIMATORS["Classifier"]().get_params()}
    assert {*re.findall(r"`(\w+)`", table)} >= shared
