"""The one exception that means "your input, not our bug"."""


class DeepSADError(Exception):
    """Something the user can fix: a wrong value, a missing file, an impossible request.

    Each message is one sentence that says what is wrong, the value seen, what is allowed and the way out. The command
    line prints it without a traceback.

    Attributes:
        problems: one message each.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__(*problems)
        self.problems = list(problems)

    def __str__(self) -> str:
        if len(self.problems) == 1:
            return self.problems[0]
        return "\n".join([f"{len(self.problems)} problems:", *(f"  - {problem}" for problem in self.problems)])
