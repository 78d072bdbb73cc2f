"""The one console that everything prints to."""

from rich.console import Console

console = Console(highlight=False)
