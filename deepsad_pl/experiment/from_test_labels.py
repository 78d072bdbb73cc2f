"""Whether a plan depends on a choice that was made with test labels."""

from collections.abc import Mapping
from typing import Any

from deepsad_pl.common.records import LOOKS_AT_TEST_LABELS
from deepsad_pl.experiment.plan import Plan


def has_lr_from_test(plan: Plan) -> bool:
    """Whether a phase uses the data set's learning rates and these were chosen by test AUROC."""
    phases = [phase for phase in (plan.method, plan.pretrain) if phase is not None]
    return plan.dataset.lr_from_test and any(phase.arguments.get("lr") == plan.dataset.lr for phase in phases)


def has_setting_from_test(plan: Plan) -> bool:
    """Whether the method has a setting that was chosen knowing test AUROC."""
    method = plan.method
    return any(method.arguments.get(name) == value for name, value in method.about.from_test.items())


def is_test_informed(plan: Plan, record: Mapping[str, Any]) -> bool:
    """Whether any of these holds, or the hyper-parameters were selected with test labels.

    Args:
        plan: the plan.
        record: the record of its run.
    """
    selected = record.get("selection", {}).get("protocol") == LOOKS_AT_TEST_LABELS
    return selected or has_lr_from_test(plan) or has_setting_from_test(plan)
