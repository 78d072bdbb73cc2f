"""scikit-learn's own checks of the estimators."""

from typing import Any, Self

import numpy as np
import pytest
from planned import slow_but
from public_estimators import ESTIMATORS
from sklearn.utils.estimator_checks import check_estimator
from sklearn.utils.validation import _num_samples


class IgnoresY:
    """Ignores y; methods that need labels get fixed ones for the first two and the last two samples."""

    def fit(self, X: Any, y: Any = None) -> Self:  # noqa: N803
        if self._needs_labels():  # type: ignore[attr-defined]
            y = np.zeros(_num_samples(X), dtype=int)
            y[:2], y[-2:] = 1, -1
            return super().fit(X, y)  # type: ignore[misc, no-any-return]
        return super().fit(X)  # type: ignore[misc, no-any-return]

    def fit_predict(self, X: Any, y: Any = None) -> Any:  # noqa: N803
        return self.fit(X).predict(X)  # type: ignore[attr-defined]


# Global names of the module, so that pickle finds them.
IGNORING = {
    name: type(f"{name}IgnoresY", (IgnoresY, kind), {"__module__": __name__}) for name, kind in ESTIMATORS.items()
}
globals().update({kind.__name__: kind for kind in IGNORING.values()})

_CLASSES = "it passes classes as labels, such as 0, 1, 2, which are refused: y is -1, 0 or +1"
_NO_LABELS = "it passes no labels, but the method learns from known anomalies"
OTHER_LABELS = dict.fromkeys(
    (
        *("check_fit_score_takes_y", "check_estimators_overwrite_params", "check_dont_overwrite_parameters"),
        *("check_estimators_fit_returns_self", "check_readonly_memmap_input", "check_n_features_in_after_fitting"),
        *("check_positive_only_tag_during_fit", "check_estimators_dtypes", "check_dtype_object"),
        *("check_pipeline_consistency", "check_estimators_pickle", "check_f_contiguous_array_estimator"),
        *("check_classifier_data_not_an_array", "check_methods_sample_order_invariance"),
        *("check_methods_subset_invariance", "check_fit2d_1feature", "check_dict_unchanged", "check_fit_idempotent"),
        *("check_fit_check_is_fitted", "check_n_features_in", "check_fit2d_predict1d"),
    ),
    _CLASSES,
)
LABELS_NEEDED = OTHER_LABELS | dict.fromkeys(("check_outliers_fit_predict", "check_outliers_train"), _NO_LABELS)


def quick(kind: type[Any]) -> Any:
    """An estimator that trains for one epoch, or with few trees."""
    few = {"max_epochs": 1, "trees": 10, "rounds": 5}
    return kind(**{name: few[name] for name in kind().get_params() if name in few})


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", slow_but((), ESTIMATORS))
def test_a_subclass_that_ignores_y_passes_all_checks(name: str) -> None:
    results = check_estimator(quick(IGNORING[name]), on_skip=None)
    statuses = {result["check_name"]: result["status"] for result in results}
    # The only check that needs an environment variable.
    assert {check for check, status in statuses.items() if status != "passed"} <= {"check_array_api_input"}
    assert len(statuses) > 40


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", slow_but(("Autoencoder", "Classifier"), ESTIMATORS))
def test_the_class_passes_all_checks_except_those_with_other_labels(name: str) -> None:
    made = quick(ESTIMATORS[name])
    expected = LABELS_NEEDED if made._needs_labels() else OTHER_LABELS
    results = check_estimator(made, on_skip=None, expected_failed_checks=expected)
    failed = [result for result in results if result["status"] == "xfail"]
    # Only checks that the installed scikit-learn has can fail.
    assert {result["check_name"] for result in failed} == {*expected} & {result["check_name"] for result in results}
    for result in failed:
        error = result["exception"]
        told = f"{error} {error.__cause__} {error.__context__}"
        assert "y has the values" in told or "requires y to be passed" in told, result
