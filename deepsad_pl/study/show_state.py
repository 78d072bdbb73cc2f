"""Print the state of a study on the console."""

from collections import Counter
from collections.abc import Sequence

from rich.table import Table

from deepsad_pl.common.console import console
from deepsad_pl.common.counting import counted
from deepsad_pl.study.jobs import Job
from deepsad_pl.study.machine_speed import probe_seconds
from deepsad_pl.study.rough_estimate import rough_estimate
from deepsad_pl.study.state import State, estimate

# A table of data sets and methods with more rows has one row for each data set.
_MOST_ROWS = 100


def show_state(
    name: str, state: State, processes: int | None, *, finished: Sequence[Job] = (), most_in_stack: int = 1
) -> None:
    """Print a table of data sets and methods, the failures, and the estimated time for the rest.

    Args:
        name: name of the study.
        state: state of its experiments.
        processes: number of experiments that run in parallel; None if unknown.
        finished: its finished experiments.
        most_in_stack: maximum number of experiments that the launcher trains as one.
    """
    groups: dict[str, Counter[tuple[str, ...]]] = {
        "finished": Counter((record["dataset"], record["method"]) for record in state.records.values()),
        "running": Counter(map(_key, state.working)),
        "failed": Counter(_key(job) for job, _ in state.failed),
        "waiting": Counter(map(_key, state.waiting)),
        "blank": Counter(_key(job) for job, _ in state.blank),
    }
    heads = ["data set", "method"]
    if len({key for counts in groups.values() for key in counts}) > _MOST_ROWS:
        # Of many data sets, one row each.
        heads, groups = heads[:1], {what: _by_dataset(counts) for what, counts in groups.items()}
    shown = {what: counts for what, counts in groups.items() if counts or what in ("finished", "waiting")}
    table = Table(*heads, *shown)
    keys = list(dict.fromkeys(key for counts in groups.values() for key in counts))
    for key in sorted(keys):
        table.add_row(*key, *(str(counts[key] or "") for counts in shown.values()))
    console.print(table)
    for job, error in state.failed:
        line = f"failed before: {' '.join(job.overrides)}: {error}"
        console.print(line, style="yellow", markup=False, soft_wrap=True)
    show_blank(state.blank)
    total = len(state.records) + len(state.missing) + len(state.blank)
    line = f"study {name}: {counted(total, 'experiment')}, {len(state.records)} finished, {len(state.missing)} to do"
    line += f", {len(state.blank)} blank" if state.blank else ""
    console.print(line + _time(state, finished, processes, most_in_stack), markup=False, soft_wrap=True)


def show_blank(blank: Sequence[tuple[Job, str]]) -> None:
    """Print why cells stay blank: one line for each data set and reason.

    Args:
        blank: experiments that the data cannot have, each with the reason.
    """
    for (dataset, reason), count in Counter((job.plan.dataset.name, reason) for job, reason in blank).items():
        line = f"blank: {counted(count, 'experiment')} on {dataset}: {reason}"
        console.print(line, style="yellow", markup=False, soft_wrap=True)


def _by_dataset(counts: Counter[tuple[str, ...]]) -> Counter[tuple[str, ...]]:
    found: Counter[tuple[str, ...]] = Counter()
    for key, count in counts.items():
        found[key[:1]] += count
    return found


def _key(job: Job) -> tuple[str, ...]:
    return job.plan.dataset.name, job.plan.method.name


def _time(state: State, finished: Sequence[Job], processes: int | None, most_in_stack: int) -> str:
    if not state.missing:
        return ""
    left, parallel = estimate(state.missing, state.records.values()), processes or 1
    plans = [job.plan for job in left.unknown]
    # Only a training in a run folder of this machine is in the cache.
    here = [job.plan for job in finished if job.plan.run_dir.exists()] if plans else []
    rough = rough_estimate(plans, here, processes=parallel, most_in_stack=most_in_stack)
    unknown = rough.undeclared + rough.on_gpu
    why = "since no similar one is finished"
    without = "nothing declares their cost" if not rough.on_gpu else "the speed of a GPU is not known beforehand"
    if unknown == len(state.missing):
        return f" (no time estimate, {why} and {without})"
    seconds = left.seconds / parallel + (rough.cost * probe_seconds() if len(plans) > unknown else 0.0)
    text = f", about {_duration(seconds)}"
    text += f" on {processes} processes" if processes and processes > 1 else " one after the other"
    notes = []
    if covered := len(plans) - unknown:
        which = "" if covered + unknown == len(state.missing) else f" for {covered} of them"
        notes.append(f"rough{which}: from the speed of a core of this machine, {why}")
    if unknown:
        notes.append(f"not counting {unknown}, {why} and {without}")
    return text + (f" ({'; '.join(notes)})" if notes else "")


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
