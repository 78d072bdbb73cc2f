"""Which overrides change what an experiment comes to."""

_WITHOUT = ("logger", "data_dir", "force", "output_dir", "pretrain.cache", "trainer")
_BUT = ("trainer.max_epochs", "trainer.precision")


def is_decisive(override: str) -> bool:
    """Whether an override can change the result; where things lie and how they are computed and reported does not."""
    key = override.lstrip("+~").split("=", 1)[0]
    return key in _BUT or not any(key == name or key.startswith(f"{name}.") for name in _WITHOUT)
