"""The exception that means "wrong input, not a bug"."""


class DeepSADError(Exception):
    """A problem that the user can fix: a wrong value, a missing file, an impossible request.

    Each message is one sentence that says what is wrong, the value found, what is allowed and how to fix it. The
    command line prints it without a traceback.

    Attributes:
        problems: the messages, one for each problem.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__(*problems)
        self.problems = list(problems)

    def __str__(self) -> str:
        if len(self.problems) == 1:
            return self.problems[0]
        return "\n".join([f"{len(self.problems)} problems:", *(f"  - {problem}" for problem in self.problems)])


class BlankCellError(DeepSADError):
    """The data hold too few anomalies for an experiment, so its cell in a study stays blank; trying again is no use.

    Attributes:
        experiment: the hash of the experiment's identity, which includes the data.
    """

    def __init__(self, *problems: str, experiment: str = "") -> None:
        super().__init__(*problems)
        self.experiment = experiment
