"""Only a class that itself has a stacked form is stacked; any other is trained alone, by its own loss, and says so."""

from pathlib import Path

import numpy as np
import pytest
from stacks import alone, assigned, outcomes, scores, together
from test_subclasses_in_stacks import (
    CELLS,
    DEEP,
    WORDS,
    bits,
    lines_on,
    robust,
    with_another_score,
    with_other_terms,
)
from test_subclasses_in_stacks import (
    at_info_level as at_info_level,
)
from test_subclasses_in_stacks import (
    registered as registered,
)

from deepsad_pl import build as build_module
from deepsad_pl.experiment import run_experiment
from deepsad_pl.stacked.experiments import Assignment, run_together
from deepsad_pl.stacked.grouping import stack_key


@pytest.mark.parametrize("method", DEEP)
def test_a_stack_gives_what_each_experiment_gives_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, method: str
) -> None:
    classes, pretrain = DEEP[method]
    cells = [(*WORDS, f"method={method}", pretrain, *cell) for cell in CELLS]
    singles = [alone(tmp_path / "alone", *cell) for cell in cells]
    stacked = outcomes(together(tmp_path / "stacked", *cells))
    assert lines_on(caplog) == []
    for single, replica in zip(singles, stacked, strict=True):
        assert replica.record["trainer"]["replicas"] == 2
        assert replica.record["auroc"] == pytest.approx(single.record["auroc"], abs=2e-3)
        np.testing.assert_allclose(scores(replica.run_dir), scores(single.run_dir), rtol=2e-3, atol=2e-4)

    for change in (with_other_terms, with_another_score):
        caplog.clear()
        with monkeypatch.context() as patch:
            for parent in classes:
                patch.setattr(build_module, parent.__name__, change(parent))
            name = change(classes[0]).__name__
            own = [alone(tmp_path / f"{name} alone", *cell) for cell in cells]
            packed = outcomes(together(tmp_path / name, *cells))
        for parents, single, replica in zip(singles, own, packed, strict=True):
            assert bits(replica) == bits(single) != bits(parents)
            assert replica.record["trainer"]["replicas"] == 1
            told = (replica.run_dir / "train.log").read_text()
            assert told.count("so it is trained alone") == len(classes)
        phases = ("pretrain", "fit")[-len(classes) :]
        assert lines_on(caplog) == [f"{phase}: {name} has no stacked form, so it is trained alone" for phase in phases]


@pytest.mark.usefixtures("registered")
def test_a_registered_subclass_is_trained_alone_beside_a_stack_of_its_parents(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cells = [(*WORDS, *cell) for cell in CELLS]

    def assignments(where: Path) -> list[Assignment]:
        made = [one for cell in cells for one in (assigned(where, *cell), robust(where, *cell))]
        return [*made, assigned(where, *cells[0], "method=deep_svdd")]

    keys = [stack_key(one.plan) for one in assignments(tmp_path)]
    assert keys[0] == keys[2] == keys[4] != keys[1] == keys[3] is not None
    packed = outcomes(run_together(assignments(tmp_path / "packed")))
    of_robust = [outcome for outcome in packed if outcome.record["method"] == "robust_sad"]
    others = [outcome for outcome in packed if outcome not in of_robust]
    assert lines_on(caplog) == ["fit: RobustSADModule has no stacked form, so it is trained alone"]
    for outcome in packed:
        told = (outcome.run_dir / "train.log").read_text()
        assert told.count("RobustSADModule has no stacked form") == (outcome in of_robust)
    assert [outcome.record["trainer"]["replicas"] for outcome in of_robust] == [1, 1]
    assert [outcome.record["trainer"]["replicas"] for outcome in others] == [3, 3, 3]

    singles = [
        run_experiment(one.plan, config=one.config, config_yaml=one.config_yaml, command=one.command)
        for one in assignments(tmp_path / "alone")
    ]
    for single, replica in zip(singles, packed, strict=True):
        # The autoencoders of all are a stack, which rounds in another way.
        np.testing.assert_allclose(scores(replica.run_dir), scores(single.run_dir), rtol=2e-3, atol=2e-4)
        assert replica.record["auroc"] == pytest.approx(single.record["auroc"], abs=2e-3)
    for robust_one, parent in zip(of_robust, packed[::2], strict=False):
        assert np.abs(np.subtract(scores(robust_one.run_dir), scores(parent.run_dir))).max() > 1e-2
