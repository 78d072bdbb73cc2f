"""From words of a command line to settings: Hydra, strict about what it composes."""
