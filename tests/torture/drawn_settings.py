"""Settings drawn by hypothesis from the declared types: allowed ones, ones out of range, and extreme ones."""

import json
import math
import warnings
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import HypothesisWarning
from planned import METHODS, about

from deepsad_pl.common.ranges import Range
from deepsad_pl.common.signatures import signature_of
from deepsad_pl.settings.about import own
from deepsad_pl.settings.schema import KINDS
from deepsad_pl.settings.typed import SUPPLIED, keys_of
from torture.trial import Bench, Outcome, WrongError, refused, require_sentences, right
from torture.workloads import References

WHAT = "settings drawn by hypothesis from the declared types: allowed, out of range, extreme"
_ALWAYS = ("trainer=cpu", "trainer.max_epochs=1", "logger=none")
# Settings without a declared range here, or that would only make a trial long.
_LEFT_OUT = frozenset(("name", "_target_", "about", "compile", "epochs", "num_nodes", "devices", "strategy", "threads"))
_EXTREME = ("1e308", "-1e308", "1e-308", "1e20", "1000000000000", "nan", "inf", "-inf", "2147483648")
_TEXT = ("''", "abc", "'1_0'", "ü", "[]", "{}", "null", "true", "'a,b'", "'${seed}'", "'{'")
# An experiment of one epoch on the digits takes seconds.
_LONGEST_S = 120
_MEMORY = 12 << 30


def kinds_of(group: str, choice: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a choice with a declared type, by name."""
    signature = signature_of(str(choice["_target_"])) if "_target_" in choice else None
    declared = {**keys_of(group), **(signature.kinds if signature else {})}
    names = set(choice) - set(SUPPLIED[group]) - _LEFT_OUT
    return {name: declared[name] for name in sorted(names) if declared.get(name, Any) is not Any}


def allowed(kind: Any) -> st.SearchStrategy[str]:
    """Values that a declared type allows, as text for the command line; small, so that the experiment is short."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated and isinstance(limit := arguments[1], Range):
        return _inside(limit, whole=_is_whole(arguments[0]))
    if origin is Annotated:
        return allowed(arguments[0])
    if origin is Union or str(origin) == "<class 'types.UnionType'>":
        return st.one_of(*(st.just("null") if one is type(None) else allowed(one) for one in arguments))
    if origin is Literal:
        return st.sampled_from([_word(one) for one in arguments])
    if origin is not None and arguments and isinstance(origin, type):
        return st.lists(allowed(arguments[0]), min_size=1, max_size=2).map(lambda items: f"[{','.join(items)}]")
    if kind is bool:
        return st.sampled_from(("true", "false"))
    if kind is int:
        return st.integers(0, 12).map(str)
    if kind is float:
        return st.floats(0, 1).map(repr)
    return st.just("null")


def _is_whole(kind: Any) -> bool:
    return kind is int


def _inside(limit: Range, *, whole: bool) -> st.SearchStrategy[str]:
    if whole:
        low = int(limit.low)
        found = st.integers(low, int(min(limit.high, low + 12)))
        return found.filter(lambda value: value in limit).map(str)
    high = min(limit.high, 4.0)
    return st.floats(max(limit.low, 1e-3), high).filter(lambda value: value in limit).map(repr)


def outside(kind: Any) -> st.SearchStrategy[str] | None:
    """Values that a declared type does not allow; None if no value is sure to be wrong."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated and isinstance(limit := arguments[1], Range):
        wrong = [value for value in (-1, -0.5, math.nan, math.inf, limit.high * 2 + 1) if value not in limit]
        return st.sampled_from([_word(value) for value in wrong] + ["abc", "[1,2]"])
    if origin is Literal:
        return st.sampled_from(("abc", "17", "[]"))
    if kind in (int, float):
        return st.sampled_from(("abc", "[1]", "{}"))
    if kind is bool:
        # No number: OmegaConf takes every number but 0 as true.
        return st.sampled_from(("abc", "[]"))
    return None


def _word(value: Any) -> str:
    return {True: "true", False: "false"}.get(value, str(value)) if isinstance(value, bool) else str(value)


@st.composite
def command(draw: st.DrawFn, how: str) -> tuple[tuple[str, ...], str | None]:
    """The words of a command, and the setting that is wrong or extreme."""
    method = draw(st.sampled_from(METHODS))
    words = [f"method={method}"]
    kinds = {f"method.{name}": kind for name, kind in kinds_of("method", own("method")[method]).items()}
    chosen = draw(st.sampled_from(about(method).pretrain or ("none",))) if about(method).pretrain else None
    if chosen:
        words.append(f"pretrain={chosen}")
        node = own("pretrain").get(chosen, {})
        kinds |= {f"pretrain.{name}": kind for name, kind in kinds_of("pretrain", node).items()}
    threshold = draw(st.sampled_from(("none", "conformal", "quantile", "labeled")))
    words.append(f"threshold={threshold}")
    fields = {"conformal": ("share", "alpha"), "quantile": ("alpha",), "labeled": ("share", "fpr"), "none": ()}
    kinds |= {f"threshold.{name}": KINDS["threshold"][name] for name in fields[threshold]}
    kinds |= {f"trainer.{name}": KINDS["trainer"][name] for name in ("precision", "checkpoint_seconds")}
    scenario = {
        **{f"scenario.{name}": st.floats(0, 0.3).map(repr) for name in ("gamma_l", "gamma_p", "gamma_n", "gamma_e")},
        "scenario.k_l": st.integers(1, 3).map(str),
        "scenario.normal_class": st.integers(0, 9).map(str),
        "seed": st.integers(0, 2**31).map(str),
    }
    names = sorted({*kinds, *scenario})
    some = draw(st.lists(st.sampled_from(names), max_size=5, unique=True))
    if threshold == "labeled":
        some = sorted({*some, "scenario.gamma_l", "scenario.gamma_n"})
        scenario |= dict.fromkeys(("scenario.gamma_l", "scenario.gamma_n"), st.floats(0.1, 0.3).map(repr))
    words += [f"{name}={draw(scenario[name] if name in scenario else allowed(kinds[name]))}" for name in some]
    if how == "allowed":
        return tuple(words), None
    if how == "unknown":
        key = draw(st.sampled_from(("method.etaa", "sed", "scenario.gama_l", "trainer.max_epoch", "dataset.paht")))
        return (*words, f"{key}=1"), key
    if how == "extreme":
        key = draw(st.sampled_from(names))
        value = draw(st.sampled_from(_EXTREME + _TEXT))
        return (*(word for word in words if word.split("=")[0] != key), f"{key}={value}"), key
    # Without a pre-training, its settings are not read.
    read = {name: kind for name, kind in kinds.items() if not (chosen == "none" and name.startswith("pretrain."))}
    sure = {name: wrong for name, kind in read.items() if (wrong := outside(kind)) is not None}
    key = draw(st.sampled_from(sorted(sure)))
    return (*(word for word in words if word.split("=")[0] != key), f"{key}={draw(sure[key])}"), key


def drawn(strategy: st.SearchStrategy[Any], number: int) -> Any:
    """Draw one value by a seed."""
    found: list[Any] = []

    @seed(number)
    @settings(
        max_examples=4,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def collect(value: Any) -> None:
        found.append(value)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HypothesisWarning)
        collect()
    return found[-1]


def trial(bench: Bench, references: References) -> Outcome:
    del references
    how = ("allowed", "outside", "extreme", "allowed", "unknown")[bench.turn % 5]
    words, key = drawn(command(how), bench.rng.randrange(2**32))
    env = {"DEEPSAD_TEST_HOOK": "torture.hook", "TORTURE_MEMORY": str(_MEMORY)}
    told = f"{how}: {' '.join(words)}"
    try:
        ended = bench.run("train.py", *_ALWAYS, *words, env=env, timeout=_LONGEST_S)
        require_sentences(ended)
        records = list(bench.folder.rglob("metrics.json"))
        if ended.code == 1:
            if records:
                raise WrongError("it failed, but left a record")
            if how in ("outside", "unknown") and any(bench.folder.iterdir()):
                raise WrongError("it was refused, but only after work had begun: there are files")
            if key and how != "extreme" and key.split(".")[-1] not in ended.out + ended.err:
                raise WrongError(f"the message does not name {key}: {ended.told[:200]}")
            return refused(f"{told}: {ended.told[:160]}")
        if how in ("outside", "unknown"):
            raise WrongError(f"{key} is wrong, but was accepted")
        if len(records) != 1:
            raise WrongError(f"it left {len(records)} records")
        auroc = json.loads(records[0].read_text())["auroc"]
        if not (isinstance(auroc, float) and 0 <= auroc <= 1):
            raise WrongError(f"its AUROC is {auroc}")
    except WrongError as error:
        raise WrongError(f"{told}: {error}") from None
    return right(told)
