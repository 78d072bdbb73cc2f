"""Which overrides change what an experiment comes to."""

from collections.abc import Iterable

_WITHOUT = ("logger", "data_dir", "force", "output_dir", "pretrain.cache", "trainer", "metrics")
_BUT = ("trainer.max_epochs", "trainer.precision", "trainer.extra", "trainer.callbacks")


def is_decisive(override: str) -> bool:
    """Whether an override can change the result; where things lie and how they are computed and reported does not."""
    key = override.lstrip("+~").split("=", 1)[0]
    return _is_in(key, _BUT) or not _is_in(key, _WITHOUT)


def _is_in(key: str, groups: Iterable[str]) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in groups)
