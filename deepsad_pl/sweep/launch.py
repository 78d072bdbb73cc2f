"""Divide the jobs of a sweep into stacks, and run them: which jobs, how many per stack, in which process."""

import json
import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from hydra.conf import HydraConf
from hydra.core.config_loader import ConfigLoader

from deepsad_pl.common.console import console
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.signals import ctrl_c_held_back
from deepsad_pl.common.worker_end import end_with_the_sweep
from deepsad_pl.compose.composer import composer_of
from deepsad_pl.compose.configured import repeat_command
from deepsad_pl.data.scenario import ALL
from deepsad_pl.data.sources import Source
from deepsad_pl.experiment.build import load_data, network_of
from deepsad_pl.experiment.finished import finished_outcome
from deepsad_pl.experiment.plan import Plan, make_plan
from deepsad_pl.stacked.experiments import Result
from deepsad_pl.stacked.grouping import (
    LEAST_OF_ROWS,
    MOST_ON_CPU,
    MOST_ON_GPU,
    largest_batch,
    packs_of,
    pays_on_cpu,
    stack_key,
)
from deepsad_pl.stacked.replica_memory import free_bytes, replica_bytes
from deepsad_pl.stacked.stack_notes import stacks_folder
from deepsad_pl.stacked.stack_progress import StackProgress
from deepsad_pl.sweep.job import failures_of
from deepsad_pl.sweep.outcomes import show_job
from deepsad_pl.sweep.worker import PackedJob, Sweep, run_pack, workers_are_told
from deepsad_pl.training.device import device_of
from deepsad_pl.training.trainer_arguments import has_arguments

# The most jobs that one process runs before it takes the next ones.
_MOST_IN_TURN = 16


@dataclass(frozen=True)
class Stackable:
    """A job that can be trained in a stack with others.

    Attributes:
        index: position in the list of jobs.
        job: what a worker needs to run it.
        plan: plan of the experiment.
    """

    index: int
    job: PackedJob
    plan: Plan

    @property
    def cell(self) -> str:
        """Key shared by experiments that use the same autoencoder."""
        return json.dumps([self.plan.identity["scenario"], self.plan.seed], sort_keys=True, default=str)


class Stacker:
    """Plans and runs the stacks of a sweep.

    Args:
        loader: Hydra's config loader.
        hydra_conf: Hydra's own configuration.
        task: function that runs a single job.
        max_replicas: maximum number of experiments in a stack; None: as many as the memory allows.
        processes: number of processes that run stacks in parallel.

    Attributes:
        shallow: positions of the jobs with a shallow method in the last call of :meth:`plan`.

    Raises:
        DeepSADError: if one of the numbers is too small.
    """

    def __init__(
        self, loader: ConfigLoader, hydra_conf: HydraConf, task: object, *, max_replicas: int | None, processes: int
    ) -> None:
        if max_replicas is not None and not (isinstance(max_replicas, int) and max_replicas >= 1):
            raise DeepSADError(
                f"hydra.launcher.max_replicas is {max_replicas}; it must be a whole number >= 1, or null"
            )
        self._composer = composer_of(loader, hydra_conf.job.config_name, hydra_conf.overrides.hydra)
        self._hydra = hydra_conf
        self._failures = failures_of(task)
        self._most, self._processes = max_replicas, processes
        self.shallow: set[int] = set()
        self._in_turn: list[Stackable] = []

    @property
    def of_study(self) -> bool:
        """Whether the jobs belong to a study, which continues if one of its processes dies."""
        return self._failures is not None

    def plan(self, jobs: Sequence[list[str]]) -> tuple[list[list[Stackable]], list[int]]:
        """Divide jobs into stacks and jobs that are run separately.

        Args:
            jobs: the overrides of each.

        Returns:
            The stacks, one of which holds all jobs that are already finished; and the positions of jobs that cannot be
            stacked or cannot be run on this machine, which each report the reason when run.
        """
        stackable: list[tuple[object, Stackable]] = []
        finished: list[Stackable] = []
        rest: list[int] = []
        added = large = 0
        self.shallow.clear()
        self._in_turn.clear()
        for index, overrides in enumerate(jobs):
            settings = self._composer.settings(overrides)
            try:
                plan = make_plan(settings, multirun=True)
            except DeepSADError:
                rest.append(index)
                continue
            key = stack_key(plan)
            item = Stackable(index, PackedJob(overrides, settings, repeat_command(overrides, self._hydra)), plan)
            if key is None:
                rest.append(index)
                if plan.about.shallow:
                    self.shallow.add(index)
                    self._in_turn += [item] if _is_short(plan) else []
                elif has_arguments(plan.trainer):
                    added += 1
                continue
            if finished_outcome(plan) is not None:
                finished.append(item)
            else:
                stackable.append((key, item))
        # Put experiments that can share an autoencoder into the same stack.
        stackable.sort(key=lambda item: item[1].cell)
        packs: list[tuple[int, list[Stackable]]] = []
        for key in dict.fromkeys(key for key, _ in stackable):
            group = [item for item in stackable if item[0] == key]
            try:
                most, rows = self._limits([item.plan for _, item in group])
            except (DeepSADError, ValueError):  # from the data or the network
                rest += [item.index for _, item in group]
                continue
            if most is None:
                rest += [item.index for _, item in group]
                large += len(group)
                continue
            least = LEAST_OF_ROWS if group[0][1].plan.dataset.about.inputs == "rows" else 1
            made = packs_of(group, most=most, workers=self._processes, least=least, together=lambda item: item.cell)
            packs += [(rows * len(pack), pack) for pack in made]
        # Longest first, so that the workers finish at about the same time.
        packs.sort(key=lambda item: -item[0])
        why = {
            "trainer.extra and trainer.callbacks are for the Trainer of a single experiment": added,
            "on a CPU, stacks are slower for images of this size": large,
        }
        for reason, number in why.items():
            if number:
                count = "1 experiment runs" if number == 1 else f"{number} experiments run"
                console.print(f"{count} alone: {reason}", markup=False, soft_wrap=True)
        return [*([finished] if finished else []), *(pack for _, pack in packs)], sorted(rest)

    def in_turn(self, processes: int) -> list[list[Stackable]]:
        """Packs of short jobs of the last call of :meth:`plan`, each to be run one after the other in one process.

        A job in a process of its own composes its configuration and reads its data again, which for a table takes
        several times as long as a shallow method. The jobs of a pack share their data.

        Args:
            processes: number of processes that run packs in parallel.
        """
        most = max(1, min(_MOST_IN_TURN, -(-len(self._in_turn) // processes)))
        by_data: dict[str, list[Stackable]] = {}
        for item in self._in_turn:
            by_data.setdefault(json.dumps([item.plan.dataset.settings(), item.plan.seed], sort_keys=True), []).append(
                item
            )
        return [items[at : at + most] for items in by_data.values() for at in range(0, len(items), most)]

    def _limits(self, plans: Sequence[Plan]) -> tuple[int | None, int]:
        """The maximum size of a stack of such plans, None if none pays; and the maximum number of training rows."""
        device = device_of(plans[0].trainer).type
        source = load_data(plans[0])
        rows = max(_training_rows(plan, source) for plan in plans)
        network, batch_size = network_of(plans[0].dataset, source), max(map(largest_batch, plans))
        # Before any return: this builds the network, and raises what makes it impossible.
        each = replica_bytes(network, source.shape, batch_size=batch_size, data=rows * source.x_train[0].nbytes)
        if self._most is not None:
            return self._most, rows
        if device == "cpu" and not pays_on_cpu(source.shape, batch_size):
            return None, rows
        in_memory = free_bytes(device) // self._processes // each
        return max(1, min(in_memory, MOST_ON_GPU if device == "cuda" else MOST_ON_CPU)), rows

    def run(
        self, packs: Sequence[Sequence[Stackable]], *, processes: int | None = None, in_turn: bool = False
    ) -> dict[int, Result]:
        """Run the stacks and show the outcomes, unless a study shows them.

        Args:
            packs: the stacks.
            processes: number of processes that run them in parallel; None: as for all stacks.
            in_turn: whether the experiments of a pack are run one after the other, not as a stack.

        Returns:
            The result of each job, by its position.
        """
        import joblib

        # In a study, an experiment may kill its process, so it must not run in this one.
        processes = processes or self._processes
        alone = processes == 1 or (len(packs) < 2 and self._failures is None)
        threads = None if len(packs) < 2 else max(1, joblib.cpu_count() // processes)
        show = alone and self._failures is None
        results: dict[int, Result] = {}
        parallel = joblib.Parallel(
            n_jobs=1 if alone else processes,
            return_as="generator",
            batch_size=1,
            initializer=end_with_the_sweep,
            initargs=(os.getpid(),),
        )
        with ExitStack() as open_:
            sweep, watch, bar = None, None, None
            if not alone:
                sweep = Sweep(os.getpid(), Path(open_.enter_context(TemporaryDirectory())))
                open_.enter_context(workers_are_told(sweep))
            if self._failures is not None:
                watch = stacks_folder(self._failures)
            elif sweep is not None:
                watch = sweep.folder
                bar = open_.enter_context(StackProgress(sum(map(len, packs)), watch))
            calls = (
                joblib.delayed(run_pack)(
                    [item.job for item in pack],
                    failures=self._failures,
                    watch=watch,
                    threads=threads,
                    show=show,
                    sweep=sweep,
                    in_turn=in_turn,
                )
                for pack in packs
            )
            # This starts the workers, and the threads that start others in their place.
            with ctrl_c_held_back():
                results_of = parallel(calls)
            for pack, done in zip(packs, results_of, strict=True):
                if done is None:
                    continue
                for item, result in zip(pack, done, strict=True):
                    results[item.index] = result
                    if self._failures is None:
                        show_job(item.index, item.job.overrides, result)
                    if bar is not None:
                        bar.advance()
        return results


def _is_short(plan: Plan) -> bool:
    """Whether a shallow method on a table's own columns, which takes seconds at most for small tables."""
    rows = plan.dataset.about.inputs == "rows"
    return rows and plan.pretrain is None and plan.ranks == 1


def _training_rows(plan: Plan, source: Source) -> int:
    """Estimate the number of training rows: the normal classes, plus the labeled and polluting rows by their shares."""
    scenario = plan.identity["scenario"]
    if "given" in scenario:
        return len(source.x_train)
    if scenario.get("unlabeled") == ALL:
        return len(source.x_train)
    normal = int(np.isin(source.labels_train, scenario["normal_classes"]).sum())
    by_ratio = normal / max(1e-3, (1 - scenario.get("gamma_l", 0)) * (1 - scenario["gamma_p"]))
    return int(by_ratio + scenario.get("labels", 0))
