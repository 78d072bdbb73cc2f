"""Every numeric setting has bounds: a number out of all reason is refused with a sentence before any work."""

import copy
import math
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, get_args, get_origin

import pytest
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from planned import METHODS, composed, settings_of

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.ranges import Range
from deepsad_pl.compose.declared import to_settings
from deepsad_pl.experiment.plan import make_plan
from deepsad_pl.settings.typed import SUPPLIED, _kinds

ABSURD = (1e308, 1e20, -1, math.nan, math.inf, 10**12, 10**30)
# What is accepted although it is large, since densities of such widths neither overflow nor take long.
HARMLESS = {"method.bandwidths": (1e20, 10**12, 10**30)}
# The groups whose options name a component, each with words that choose it.
COMPONENTS = [
    ("dataset.network", ("dataset=digits",)),
    ("dataset.network", ("dataset=toy",)),
    ("dataset", ("dataset=digits",)),
    ("dataset", ("dataset=toy",)),
    ("pretrain", ("pretrain=autoencoder",)),
    ("pretrain", ("pretrain=vae", "method=ss_dgm_m1m2")),
    *(("method", (f"method={name}",)) for name in METHODS),
]
# Settings whose type Hydra enforces: the words that choose the option that has them, and their keys.
TYPED = {
    (): (
        "seed",
        *(f"scenario.{key}" for key in ("gamma_l", "gamma_p", "gamma_n", "gamma_e", "gamma_en", "k_l", "labels")),
        *(f"trainer.{key}" for key in ("devices", "num_nodes", "threads", "max_epochs", "checkpoint_seconds")),
    ),
    ("scenario=queried",): tuple(f"scenario.{key}" for key in ("gamma_p", "start", "rounds", "query_count")),
    ("threshold=conformal",): ("threshold.share", "threshold.alpha"),
    ("threshold=quantile",): ("threshold.alpha",),
    ("threshold=labeled",): ("threshold.share", "threshold.fpr"),
}


def ranges_of(kind: Any) -> Iterator[Any]:
    """The numeric types in a declared type."""
    if (get_origin(kind) is Annotated and isinstance(get_args(kind)[1], Range)) or kind in (int, float):
        yield kind
    else:
        for one in get_args(kind):
            yield from ranges_of(one)


def is_sequence(kind: Any) -> bool:
    return any(one is Sequence or get_origin(one) in (Sequence, list) for one in (kind, *get_args(kind)))


def refusal(settings: dict[str, Any]) -> str:
    with pytest.raises(DeepSADError) as caught:
        make_plan(settings)
    return "\n".join(caught.value.problems)


@pytest.mark.parametrize(("place", "words"), COMPONENTS, ids=lambda part: part if isinstance(part, str) else part[-1])
def test_absurd_numbers_of_components(place: str, words: tuple[str, ...]) -> None:
    settings = settings_of(*words)
    group = place.rpartition(".")[2]
    node = settings["dataset"]["network"] if group == "network" else settings[group]
    kinds = {name: kind for name, kind in _kinds(group, node["_target_"]).items() if name not in SUPPLIED[group]}
    numeric = {name: kind for name, kind in kinds.items() if any(ranges_of(kind)) and name in node}
    assert numeric or group == "dataset"
    for name, kind in numeric.items():
        # A bare int or float says nothing about its size.
        assert not {int, float}.intersection(ranges_of(kind)), f"{place}.{name} is declared without a range"
        for absurd in ABSURD:
            changed = copy.deepcopy(settings)
            inner = changed["dataset"]["network"] if group == "network" else changed[group]
            length = len(node[name]) if isinstance(node[name], list) else 1
            inner[name] = [absurd] * length if is_sequence(kind) else absurd
            if absurd in HARMLESS.get(f"{place}.{name}", ()):
                make_plan(changed)
            else:
                assert f"{place}.{name} is " in refusal(changed), (name, absurd)


@pytest.mark.parametrize(
    ("words", "keys"), TYPED.items(), ids=["default", "queried", "conformal", "quantile", "labeled"]
)
def test_absurd_numbers_of_typed_groups(words: tuple[str, ...], keys: tuple[str, ...]) -> None:
    cfg = copy.deepcopy(composed(*words))
    settings = to_settings(cfg)
    for key in keys:
        group, _, name = key.rpartition(".")
        before = OmegaConf.select(cfg, key)
        for absurd in ABSURD:
            try:
                OmegaConf.update(cfg, key, absurd)
            except OmegaConfBaseException:
                continue  # reported by deepsad_pl.compose.strict
            node = {**(settings[group] if group else settings), name: OmegaConf.select(cfg, key)}
            assert f"{key} is " in refusal({**settings, group: node} if group else node), (key, absurd)
        OmegaConf.update(cfg, key, before)
