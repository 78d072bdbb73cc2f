"""Run many experiments together in one process; each leaves the same files as if it were run alone."""

import copy
import gc
import json
import logging
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from deepsad_pl.common.checkpoints import Checkpoint
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.files import BusyError
from deepsad_pl.common.os_errors import as_sentence, in_sentences
from deepsad_pl.data.scenario import is_given
from deepsad_pl.data.sources import Source
from deepsad_pl.experiment.asked import round_before
from deepsad_pl.experiment.build import Parts, Phase, build, load_data
from deepsad_pl.experiment.encoder_cache import Entry, entry_key, locked_entry
from deepsad_pl.experiment.finished import Outcome, answer, finished_outcome, locked_run
from deepsad_pl.experiment.fit_deep import (
    Trained,
    checkpoint_path,
    finished_before,
    load_cached,
    load_into_module,
    reuse,
    shares,
    store_cached,
    train,
    unfinished,
    write_finished,
)
from deepsad_pl.experiment.plan import Plan
from deepsad_pl.experiment.run import (
    begun,
    finished_or_restored,
    score_and_record,
    speaking_for,
    use_threads,
)
from deepsad_pl.experiment.run_report import add_report, try_report
from deepsad_pl.experiment.scoring import score_test_set
from deepsad_pl.stacked.forms import kind_of
from deepsad_pl.stacked.steps import NotVectorizedError
from deepsad_pl.stacked.training import Training, train_stack
from deepsad_pl.stacked.vectorized import floats_of
from deepsad_pl.tracking.tracker import Tracker
from deepsad_pl.training.restorable import is_finished, usable

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Assignment:
    """An experiment to run.

    Attributes:
        plan: plan of the experiment.
        config: the configuration, nested, for the tracker.
        config_yaml: the configuration as YAML, for the run folder.
        command: command line that repeats the run.
    """

    plan: Plan
    config: Mapping[str, Any]
    config_yaml: str
    command: str


Result = Outcome | Exception
# Makes the context in which an experiment is run, given its position in the list; used for a study's notes.
Around = Callable[[int], AbstractContextManager[None]]


@dataclass
class _Member:
    """An experiment that is running.

    Attributes:
        index: position in the list.
        assignment: the experiment to run.
        parts: its data and modules.
        tracker: tracker of the experiment.
        work: the contexts to close at its end.
        trained: outcomes of its trainings.
        replicas: number of experiments in the stack of its last training.
        result: its outcome or error, once it has ended.
    """

    index: int
    assignment: Assignment
    parts: Parts
    tracker: Tracker
    work: ExitStack
    trained: dict[str, Trained] = field(default_factory=dict)
    replicas: int = 1
    result: Result | None = None

    @property
    def plan(self) -> Plan:
        return self.assignment.plan

    def end(self, result: Result) -> None:
        """Close the experiment as finished or failed."""
        if isinstance(result, Exception):
            result = as_sentence(result) or result
        self.result = result
        with speaking_for(self.plan):
            _close(self.work, result if isinstance(result, Exception) else None)


def run_in_turn(assignments: Sequence[Assignment], *, around: Around = lambda _: nullcontext()) -> list[Result]:
    """Run experiments one after the other, loading data that several of them share only once.

    Args:
        assignments: the experiments; adjacent ones should share their data, since only the last data are kept.
        around: see :func:`run_together`.

    Returns:
        The outcome or error of each experiment, in their order.
    """

    def around_only(index: int) -> Around:
        return lambda _: around(index)

    results: list[Result] = []
    sources: dict[str, Source] = {}
    for index, assignment in enumerate(assignments):
        results += run_together([assignment], around=around_only(index), sources=sources)
        while len(sources) > 1:
            del sources[next(iter(sources))]
    return results


def run_together(
    assignments: Sequence[Assignment],
    *,
    watch: Path | None = None,
    around: Around = lambda _: nullcontext(),
    sources: dict[str, Source] | None = None,
) -> list[Result]:
    """Run experiments with the same trainer configuration; trainings of one kind are stacked.

    Finished experiments are not repeated, and unfinished ones are resumed, whether they were run alone or in any stack.
    An experiment that another process is running is waited for after all others have ended. A failure does not affect
    the other experiments.

    Args:
        assignments: the experiments.
        watch: folder for this process's progress file; None: write no progress file.
        around: makes a context, given an experiment's position in the list, in which the experiment is run.
        sources: data that were loaded before; those that are loaded are added.

    Returns:
        The outcome or error of each experiment, in their order.
    """
    results: dict[int, Result] = _failed_before(assignments, watch)
    sources = {} if sources is None else sources
    todo = [index for index in range(len(assignments)) if index not in results]
    while todo:
        members, busy = _begin_all(todo, assignments, around, sources, results)
        _train_and_score(members, watch)
        results |= {member.index: member.result for member in members if member.result is not None}
        if busy and (error := _wait_for(assignments[busy[0]].plan)) is not None:
            results[busy.pop(0)] = error
        # The process that had the first one may have had all of them, and may have left them unfinished.
        todo = busy
    return [results[index] for index in range(len(assignments))]


def _failed_before(assignments: Sequence[Assignment], watch: Path | None) -> dict[int, Result]:
    """Run the rounds before the experiments, together; return the errors of those that cannot go on from one.

    No experiment is open yet: one that holds its lock while it waits for an earlier round could wait forever for a
    process that does the same.
    """
    rounds: dict[Path, Assignment] = {}
    after: dict[Path, list[int]] = {}
    for index, assignment in enumerate(assignments):
        plan = assignment.plan
        before = round_before(plan, assignment.config, assignment.config_yaml, assignment.command)
        with suppress(DeepSADError):  # raised again when the experiment is opened
            if before is not None and finished_outcome(plan) is None:
                rounds.setdefault(before[0].run_dir, Assignment(*before))
                after.setdefault(before[0].run_dir, []).append(index)
    results = run_together(list(rounds.values()), watch=watch) if rounds else []
    return {
        index: DeepSADError(f"the previous round, in {run_dir}, failed: {result}")
        for run_dir, result in zip(rounds, results, strict=True)
        if isinstance(result, Exception)
        for index in after[run_dir]
    }


def _begin_all(
    todo: Sequence[int],
    assignments: Sequence[Assignment],
    around: Around,
    sources: dict[str, Source],
    results: dict[int, Result],
) -> tuple[list[_Member], list[int]]:
    """Open experiments. Return the opened ones and the positions of those that other processes are running.

    Adds the results of experiments that need no work, or cannot be opened, to ``results``.
    """
    members: list[_Member] = []
    busy: list[int] = []
    try:
        for index in todo:
            try:
                begin = _begin(index, assignments[index], around, sources)
            except BusyError:
                busy.append(index)
            except Exception as error:
                results[index] = as_sentence(error) or error
            else:
                if isinstance(begin, _Member):
                    members.append(begin)
                else:
                    results[index] = begin
    except BaseException as stop:
        _stop(members, stop)
        raise
    return members, busy


def _train_and_score(members: Sequence[_Member], watch: Path | None) -> None:
    """Train and score open experiments, and close them."""
    try:
        for number in range(max((len(member.parts.phases) for member in members), default=0)):
            _train([member for member in _alive(members) if number < len(member.parts.phases)], number, watch)
        for member in _alive(members):
            _finish(member)
    except Exception as error:
        # An error that concerns all experiments, such as a full disk.
        for member in _alive(members):
            member.end(error)
    except BaseException as stop:
        _stop(members, stop)
        raise


@contextmanager
def _on_its_own(member: _Member) -> Iterator[None]:
    """Let an error end only the experiment that it concerns."""
    try:
        with speaking_for(member.plan):
            yield
    except Exception as error:
        member.end(error)


def _stop(members: Sequence[_Member], stop: BaseException) -> None:
    for member in _alive(members):
        with speaking_for(member.plan):
            _close(member.work, stop)


def _wait_for(plan: Plan) -> DeepSADError | None:
    """Wait until no other process is running an experiment; return the error if it cannot be locked."""
    try:
        with locked_run(plan):
            return None
    except DeepSADError as error:
        return error


def _alive(members: Sequence[_Member]) -> list[_Member]:
    return [member for member in members if member.result is None]


def _close(work: ExitStack, error: BaseException | None) -> None:
    """Exit the contexts as with an exception, but do not raise it."""
    if error is None:
        work.close()
        return
    try:
        with work:
            raise error
    except BaseException as raised:
        if raised is not error:
            raise


def _begin(index: int, assignment: Assignment, around: Around, sources: dict[str, Source]) -> _Member | Outcome:
    """Open an experiment: its notes, lock, files and tracker.

    Raises:
        BusyError: if another process is running it.
    """
    plan = assignment.plan
    if (finished := answer(plan, assignment.config, wait=False)) is not None:
        with speaking_for(plan):
            add_report(plan, lambda: build(plan, _source_of(plan, sources)), finished.record)
        return finished
    with ExitStack() as work:
        work.enter_context(around(index))
        # Inside the study's note of the experiment, which then holds the sentence.
        work.enter_context(in_sentences())
        use_threads(plan)
        parts = build(plan, _source_of(plan, sources))
        work.enter_context(locked_run(plan, wait=False))
        if (finished := finished_or_restored(plan, parts, assignment.config)) is not None:
            add_report(plan, lambda: parts, finished.record)
            return finished
        with speaking_for(plan):
            tracker = work.enter_context(
                begun(
                    plan,
                    parts,
                    config=assignment.config,
                    config_yaml=assignment.config_yaml,
                    command=assignment.command,
                )
            )
        return _Member(index, assignment, parts, tracker, work.pop_all())


def _source_of(plan: Plan, known: dict[str, Source]) -> Source:
    """The plan's data, loaded once for all experiments that share them."""
    # Without a test set of its own, a data set is split by the seed.
    dataset, seed = plan.dataset, None if plan.dataset.about.own_test_set else plan.seed
    content = [plan.identity["dataset"].get(key) for key in ("data_digest", "files", "label_files")]
    settings = [dataset.settings(), dataset.about, plan.data_dir]
    key = json.dumps([settings, seed, content, is_given(plan.scenario)], sort_keys=True, default=str)
    if key not in known:
        known[key] = load_data(plan)
    return known[key]


def _train(members: Sequence[_Member], number: int, watch: Path | None) -> None:
    """Load or train the phase of that number in every experiment."""
    for member in members:
        if number:
            member.parts.phases[number].module.start_from(member.parts.phases[number - 1].module)
    with ExitStack() as locks:
        entries = _locked_entries(members, number, locks)
        # The first experiment that needs a training runs it; the rest reuse it.
        first: dict[Path | int, _Member] = {}
        shared: list[tuple[_Member, _Member]] = []
        finished: dict[int, Checkpoint] = {}
        for member in members:
            plan, phase = member.plan, member.parts.phases[number]
            entry = entries.get(member.index)
            with _on_its_own(member):
                found = finished_before(plan, phase) or (entry and load_cached(plan, phase, entry))
                if found:
                    finished[member.index] = found
                elif entry is not None and entry.path in first:
                    shared.append((member, first[entry.path]))
                else:
                    first[entry.path if entry is not None else member.index] = member
        for member, result in _train_all(list(first.values()), number, watch):
            with _on_its_own(member):
                if isinstance(result, Exception):
                    raise result
                member.replicas = result["trained_with"].get("replicas", 1)
                write_finished(checkpoint_path(member.plan, member.parts.phases[number]), result)
                finished[member.index] = result
        for member, trainer in shared:
            with _on_its_own(member):
                if isinstance(trainer.result, Exception):
                    raise trainer.result
                member.replicas = trainer.replicas
                found = finished[trainer.index]
                finished[member.index] = reuse(member.plan, member.parts.phases[number], found, entries[member.index])
        for member in _alive(members):
            phase, done = member.parts.phases[number], finished[member.index]
            with _on_its_own(member):
                if member.index in entries:
                    store_cached(member.plan, phase, entries[member.index], done)
                member.trained[phase.name] = load_into_module(phase, done)


def _locked_entries(members: Sequence[_Member], number: int, locks: ExitStack) -> dict[int, Entry]:
    """Lock the cache entries of all experiments whose training may be shared, until the stack of locks is closed."""
    keys: dict[tuple[str, str], list[_Member]] = {}
    for member in members:
        phase = member.parts.phases[number]
        if shares(member.plan, phase):
            assert phase.determined_by is not None
            keys.setdefault((str(member.plan.cache_dir), entry_key(phase.determined_by)), []).append(member)
    entries: dict[int, Entry] = {}
    # Always lock in the same order, so that two stacks that need the same entries cannot deadlock.
    for _, sharing in sorted(keys.items()):
        plan, phase = sharing[0].plan, sharing[0].parts.phases[number]
        assert plan.cache_dir is not None and phase.determined_by is not None
        entry = locks.enter_context(locked_entry(plan.cache_dir, phase.determined_by))
        entries |= {member.index: entry for member in sharing}
    return entries


def _train_all(
    members: Sequence[_Member], number: int, watch: Path | None
) -> list[tuple[_Member, Checkpoint | Exception]]:
    """Train the phase of that number in all experiments, in stacks of one kind."""
    stacks: dict[Hashable, list[tuple[_Member, Training]]] = {}
    alone: dict[str, list[_Member]] = {}
    done: list[tuple[_Member, Checkpoint | Exception]] = []
    for member in members:
        phase = member.parts.phases[number]
        try:
            kind = kind_of(phase.module)
        except ValueError as error:
            alone.setdefault(str(error), []).append(member)
            continue
        path = checkpoint_path(member.plan, phase)
        try:
            with speaking_for(member.plan):
                resumed = unfinished(member.plan, phase)
        except Exception as error:
            done.append((member, error))
            continue
        training = Training(phase, path, member.tracker, resumed, partial(speaking_for, member.plan))
        source = phase.data.source
        key = (
            kind,
            sum(phase.module.epochs),
            training.epoch,
            source.x_train.shape[1:],
            source.x_train.dtype,
            source.scale,
        )
        stacks.setdefault(key, []).append((member, training))
    todo = [(stack, "") for stack in stacks.values()]
    while todo:
        stack, why = todo.pop(0)
        first, module = stack[0][0], stack[0][1].phase.module
        name = type(module).__name__
        if len(stack) == 1 and kind_of(module).is_vectorized:
            why = why or f"no other experiment here can be stacked with this {name}"
            alone.setdefault(why, []).append(first)
            continue
        results = _train_within_memory([training for _, training in stack], first.plan, watch)
        refused: dict[Hashable, list[tuple[_Member, Training]]] = {}
        for one, result in zip(stack, results, strict=True):
            if isinstance(result, NotVectorizedError):
                refused.setdefault(floats_of(one[1].phase.module), []).append(one)
                why = f"the terms of {name} cannot be vectorized: {result}"
            else:
                done.append((one[0], result))
        if len(refused) > 1:
            # Retry in groups whose floats are equal as well.
            todo += [(part, why) for part in refused.values()]
        elif refused:
            alone.setdefault(why, []).extend(member for of in refused.values() for member, _ in of)
    for why, of_kind in alone.items():
        with speaking_for(*(member.plan for member in of_kind)):
            log.info("%s: %s, so it is trained alone", of_kind[0].parts.phases[number].name, why)
        done += [(member, _train_alone(member, member.parts.phases[number])) for member in of_kind]
    return done


def _train_within_memory(trainings: Sequence[Training], plan: Plan, watch: Path | None) -> list[Checkpoint | Exception]:
    """Train a stack; if it does not fit into GPU memory, continue it in two halves."""
    begun = [copy.deepcopy(training.phase.module.state_dict()) for training in trainings]
    try:
        return train_stack(trainings, plan.trainer, plan.run_dir, watch=watch)
    except torch.cuda.OutOfMemoryError as error:
        if len(trainings) == 1:
            return [error]
    except NotVectorizedError as error:
        for training, state in zip(trainings, begun, strict=True):
            training.phase.module.cpu().load_state_dict(state)
            training.phase.data.trainer = None
        return [error] * len(trainings)
    except Exception as error:
        log.exception("the stack failed")
        return [error] * len(trainings)
    log.warning("a stack of %d does not fit into GPU memory, so it is trained in two halves", len(trainings))
    # Discard the progress since the last checkpoints, and free the GPU memory, part of it held by reference cycles.
    again: dict[int, list[int]] = {}
    resumed = [replace(training, resumed=_saved_by(training)) for training in trainings]
    for index, (training, state) in enumerate(zip(resumed, begun, strict=True)):
        training.phase.module.cpu().load_state_dict(state)
        training.phase.data.trainer = None
        again.setdefault(training.epoch, []).append(index)
    gc.collect()
    torch.cuda.empty_cache()
    results: dict[int, Checkpoint | Exception] = {}
    for indices in again.values():
        size = min(len(indices), -(-len(trainings) // 2))
        for part in (indices[:size], indices[size:]):
            found = _train_within_memory([resumed[index] for index in part], plan, watch) if part else []
            results |= dict(zip(part, found, strict=True))
    return [results[index] for index in range(len(trainings))]


def _saved_by(training: Training) -> Checkpoint | None:
    """The checkpoint that an aborted stack saved of a training, or else the one from which the training was resumed."""
    with training.speaking():
        found = usable(training.path, training.phase.module)
    return None if found is None or is_finished(found) else found


def _train_alone(member: _Member, phase: Phase) -> Checkpoint | Exception:
    """Run a training that cannot be stacked."""
    try:
        with speaking_for(member.plan):
            return train(member.plan, phase, member.tracker)
    except Exception as error:
        return error


def _finish(member: _Member) -> None:
    """Score, record and close an experiment."""
    with _on_its_own(member):
        record = score_and_record(
            member.plan,
            member.parts,
            member.trained,
            member.tracker,
            member.assignment.command,
            replicas=member.replicas,
            score=score_test_set,
        )
        if member.plan.report:
            try_report(member.plan, lambda: member.parts, record)
        member.end(Outcome(record, member.plan.run_dir, was_finished=False))
