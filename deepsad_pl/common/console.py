"""The console that all output goes to."""

from rich.console import Console

console = Console(highlight=False)
