"""The same command twice at once, and different ones that share autoencoders and an output folder."""

from torture.trial import Bench, Outcome, WrongError, require_done, right
from torture.workloads import STACK, WORKLOADS, References, require_results

WHAT = "the same command two or three times at once, and sweeps at once that share autoencoders and a folder"
_ALIKE = ("single", "table", "photos", "shallow", "stacked", "study", "score", "query")


def trial(bench: Bench, references: References) -> Outcome:
    if bench.turn % 4 == 3:
        return _sharing(bench, references)
    name = _ALIKE[bench.turn % len(_ALIKE)]
    reference, workload = references.of(name), WORKLOADS[name]
    references.put(name, bench.folder)
    running = []
    for _ in range(bench.rng.choice((2, 2, 3))):
        running.append(bench.start(workload.script, *references.words(name)))
        running[-1].runs_for(bench.rng.choice((0, bench.rng.uniform(0, reference.ended.seconds))))
    for command in running:
        require_done(command.end(), f"{name}, one of {len(running)} at once,")
    require_results(name, references, bench.folder)
    return right(f"{name}: {len(running)} at once")


def _sharing(bench: Bench, references: References) -> Outcome:
    """Two sweeps at once whose experiments share autoencoders: the results are as if one had run after the other."""
    workload = WORKLOADS["single"]
    seeds = f"seed={bench.rng.randrange(100)},{bench.rng.randrange(100, 200)}"
    launcher = bench.rng.choice((("-m",), STACK))
    sweeps = [(*launcher, seeds, f"method.eta={eta}", *workload.words) for eta in (1, 10)]
    running = []
    for words in sweeps:
        running.append(bench.start(workload.script, *words))
        running[-1].runs_for(bench.rng.uniform(0, 2))
    for command in running:
        require_done(command.end(), "one of two sweeps at once")
    entries = len(list(bench.folder.glob("runs/cache/*.bin")))
    records = len(list(bench.folder.rglob("metrics.json")))
    if (entries, records) != (2, 4):
        raise WrongError(f"two sweeps at once left {entries} autoencoders and {records} records instead of 2 and 4")
    together = bench.folder.rename(bench.folder.with_name("together"))
    bench.folder.mkdir()
    for words in sweeps:
        require_done(bench.run(workload.script, *words), "a sweep after the other")
    from torture.oracles import require_same_tree

    require_same_tree(bench.folder, together, exact=launcher == ("-m",))
    return right(f"two sweeps at once, {' '.join(launcher)} {seeds}")
