"""Tell which overrides can change the result of an experiment."""

from collections.abc import Iterable

_WITHOUT = ("logger", "data_dir", "force", "report", "output_dir", "pretrain.cache", "trainer", "metrics", "threshold")
_BUT = ("trainer.max_epochs", "trainer.precision", "trainer.extra", "trainer.callbacks", "threshold.share")


def is_decisive(override: str) -> bool:
    """Whether an override can change the result; folders, hardware and reporting cannot."""
    key = override.lstrip("+~").split("=", 1)[0]
    return key == "threshold" or _is_in(key, _BUT) or not _is_in(key, _WITHOUT)


def _is_in(key: str, groups: Iterable[str]) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in groups)
