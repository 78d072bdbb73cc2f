"""Power cuts at a file event: before or after each open, rename, fsync, removal and new folder of a command."""

import random

from torture.trial import Bench, Outcome, require_done, right
from torture.workloads import WORKLOADS, References, require_results

WHAT = "killed before and after each file event (open to write, rename, fsync, removal, new folder), and restarted"


def at(count: str, event: int, how: str, *, group: bool = False) -> dict[str, str]:
    """The environment in which something happens at a file event."""
    return {
        "DEEPSAD_TEST_HOOK": "torture.hook",
        "TORTURE_COUNT": count,
        "TORTURE_AT": str(event),
        "TORTURE_HOW": how,
        **({"TORTURE_GROUP": "1"} if group else {}),
    }


def drawn(bench: Bench, events: int) -> tuple[int, bool]:
    """The next event, and whether to act after it; none is repeated before all have had their turn."""
    places = list(range(2 * events))
    random.Random(events).shuffle(places)
    place = places[bench.turn // len(WORKLOADS) % len(places)]
    return place // 2 + 1, bool(place % 2)


def trial(bench: Bench, references: References) -> Outcome:
    names = tuple(WORKLOADS)
    name = names[bench.turn % len(names)]
    reference, workload = references.of(name), WORKLOADS[name]
    references.put(name, bench.folder)
    event, after = drawn(bench, reference.events)
    count = bench.folder.parent / "events"
    how = "after" if after else "before"
    command = bench.start(
        workload.script, *references.words(name), env=at(str(count), event, how, group=bench.rng.random() < 0.5)
    )
    command.end()
    command.require_nothing_left(10)
    lines = count.read_text(errors="replace").splitlines()
    told = f"{name}: {how} event {event} of {reference.events}, {lines[event - 1] if len(lines) >= event else 'none'}"
    require_done(bench.run(workload.script, *references.words(name)), f"the restart after a kill {told}")
    require_results(name, references, bench.folder, times=(1, 2))
    return right(told)
