"""What the report reads: every evaluation, metric and manifest of a results folder, as tables.

What is missing is listed, so that half a run still gives a page; what is there but damaged is an
error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import config as cf
from pipeline.dag import Plan
from pipeline.files import rerun
from pipeline.manifest import read_manifest
from pipeline.report_times import GUIDANCE, StageTime, needs_experts, stage_time
from pipeline.store import read_store
from pipeline.task_list import TaskList, read_tasks
from smac_core.envs.definition import Environment
from smac_core.envs.lookup import load_environment
from smac_core.errors import StoreError

DIAGNOSIS = ("exploration_decoder_mse", "coverage", "novelty", "offline_novelty")
"""Names of numbers in the manifest of an evaluation: docs/metrics.md."""

Columns = dict[str, np.ndarray]
"""A table of metrics: ``[rows]`` float64 by name; nan where a row has no value."""


@dataclass(frozen=True)
class Evaluation:
    """One meta-test.

    Args:
        steps: Environment steps without reward before it.
        arms: Arrays by name, by arm.
        measures: Names of what ``measure`` holds, in its order.
        offline_mse: Squared error of the decoder on offline data; nan: not recorded.
        count: How this run's meta-test counts: episodes, or transitions.
        diagnosis: Other numbers of the checkpoint as a whole, by name; those that were measured.
    """

    steps: int
    arms: Mapping[str, Mapping[str, np.ndarray]]
    measures: tuple[str, ...]
    offline_mse: float
    count: str = "episodes"
    diagnosis: Mapping[str, float] = field(default_factory=dict)

    def adapted(self, tasks: str) -> Mapping[str, np.ndarray] | None:
        """Find the arm of the protocol that this run reports.

        Args:
            tasks: ``test`` or ``train``.

        Returns:
            Its arrays; None: not measured.
        """
        suffix = "_transitions" if self.count == "transitions" else ""
        return self.arms.get(f"{tasks}_online{suffix}")


@dataclass(frozen=True)
class Missing:
    """Something that should be there and is not.

    Args:
        what: In words.
        seed: Of which seed, in words; empty: it has none.
        when: Of which round or phase, in words.
    """

    what: str
    seed: str = ""
    when: str = ""


@dataclass
class MethodResults:
    """Everything of one method in one environment.

    Args:
        name: Name of the method.
        label: For people.
        offline_of: Whose offline phase it uses; its own name where it has one.
        rounds: Rounds that should be evaluated, rising, round 0 first.
        evaluations: By seed and round.
        offline_metrics: Training curve of the offline phase, by seed; empty with ``offline_of``.
        online_metrics: Training curve of all rounds one after another, by seed.
    """

    name: str
    label: str
    offline_of: str
    rounds: list[int]
    evaluations: dict[tuple[int, int], Evaluation] = field(default_factory=dict)
    offline_metrics: dict[int, Columns] = field(default_factory=dict)
    online_metrics: dict[int, Columns] = field(default_factory=dict)


@dataclass
class EnvResults:
    """Everything of one environment.

    Args:
        name: Name of the environment.
        tasks: All tasks.
        definition: The environment itself: what its tasks and measures mean.
        methods: In the order of the preset.
        collection: Fields of the collection's manifest; None: there is none.
        collection_metrics: Learning curve of the collector.
        offline_paths: Positions of one offline episode a training task, ``[H, 2]`` each (m).
        checkpoint: Whose behaviour the video shows; None: no video is asked for, or it is missing.
    """

    name: str
    tasks: TaskList
    definition: Environment
    methods: list[MethodResults] = field(default_factory=list)
    collection: dict[str, Any] | None = None
    collection_metrics: Columns = field(default_factory=dict)
    offline_paths: list[np.ndarray] = field(default_factory=list)
    checkpoint: Path | None = None

    @property
    def can_end_early(self) -> bool:
        """Whether an episode can reach a terminal state."""
        return type(self.definition).terminated is not Environment.terminated


@dataclass
class Results:
    """Everything that the report shows.

    Args:
        run: The preset.
        root: Folder of the results.
        envs: In the order of the preset.
        missing: What should be there and is not.
        times: What every stage took.
        versions: Versions met in the manifests, by library.
        read: Every file and store read, by its path below the root.
    """

    run: cf.RunConfig
    root: Path
    envs: list[EnvResults] = field(default_factory=list)
    missing: list[Missing] = field(default_factory=list)
    times: list[StageTime] = field(default_factory=list)
    versions: dict[str, set[str]] = field(default_factory=dict)
    read: dict[str, Path] = field(default_factory=dict)

    def filmed(self, env: str) -> tuple[str, int, int]:
        """Tell whose behaviour the video of an environment shows.

        Args:
            env: The environment.

        Returns:
            Method, seed and round.
        """
        return Plan(self.run).filmed(env)


def load_results(run: cf.RunConfig, root: Path) -> Results:
    """Read a results folder.

    Args:
        run: The preset: which environments, methods, seeds and rounds to look for.
        root: The folder.

    Returns:
        What was found, and what was not.

    Raises:
        StoreError: A store, manifest or table is there but damaged, or of something else.
        TaskError: A task list is damaged.
    """
    return _Reader(run, root).read()


class _Reader:
    """Reads the files in the order of the run, and keeps note of them."""

    def __init__(self, run: cf.RunConfig, root: Path) -> None:
        self.run, self.root, self.plan = run, root, Plan(run)
        self.results = Results(run, root)

    def read(self) -> Results:
        for env in self.run.envs:
            self._env(env)
        return self.results

    def _found(self, path: Path, missing: Missing | None) -> bool:
        """Tell whether a file is there, and note it either way; None: nobody misses it."""
        if path.exists():
            self.results.read[path.relative_to(self.root).as_posix()] = path
            return True
        if missing is not None:
            self.results.missing.append(missing)
        return False

    def _env(self, name: str) -> None:
        folder = self.root / name
        if not self._found(folder / "tasks.json", Missing(f"{name}: no task list")):
            return
        config = cf.env_config(self.run, name)
        definition = load_environment(config.definition, config.params)
        tasks = read_tasks(folder / "tasks.json", definition)
        env = EnvResults(name, tasks, definition)
        self._manifest(name, folder / "tasks.manifest.json")
        collect = folder / "collect"
        env.collection = self._manifest(
            name, collect / "manifest.json", Missing(f"{name}: no record of the collection")
        )
        env.collection_metrics = self._metrics(
            collect / "metrics.csv", Missing(f"{name}: no metrics of the collection")
        )
        if any(needs_experts(self.run, method) for method in cf.methods_of(self.run, name)):
            for stage in GUIDANCE:
                told = Missing(f"{name}: no record of {stage}")
                self._manifest(name, folder / stage / "manifest.json", told)
        if definition.seen_from_above:
            self._offline_paths(env, collect / "transitions.zarr")
        if cf.stage_config(self.run, "report").video_frames:
            self._checkpoint(env)
        for method in cf.methods_of(self.run, name):
            env.methods.append(self._method(env, method))
        self.results.envs.append(env)

    def _checkpoint(self, env: EnvResults) -> None:
        path = self.root / Path(self.plan.filmed_checkpoint(env.name)).relative_to(self.run.results)
        if self._found(path, Missing(f"{env.name}: no checkpoint to film")):
            env.checkpoint = path

    def _offline_paths(self, env: EnvResults, path: Path) -> None:
        """Keep the last episode of every training task, where the store has positions."""
        if not self._found(path, Missing(f"{env.name}: no offline data to draw")):
            return
        arrays = read_store(path, "transitions", env_id=env.tasks.env_id).arrays
        if "data/position" not in arrays:
            return
        ends = arrays["meta/episode_ends"]
        last = {int(task): e for e, task in enumerate(arrays["meta/episode_task_id"])}
        for task in env.tasks.train:
            if task in last:
                first = 0 if last[task] == 0 else int(ends[last[task] - 1])
                env.offline_paths.append(arrays["data/position"][first : ends[last[task]]])

    def _method(self, env: EnvResults, name: str) -> MethodResults:
        method = MethodResults(
            name,
            cf.method_config(self.run, name).label,
            cf.offline_method(self.run, name),
            self.plan.evaluated_rounds(env.name, name),
        )
        for seed in self.run.seeds:
            self._training(env, method, seed)
            for number in method.rounds:
                self._evaluation(env, method, seed, number)
        return method

    def _training(self, env: EnvResults, method: MethodResults, seed: int) -> None:
        folder = self.root / env.name / method.name / f"seed{seed}"
        what = f"{env.name}, {method.label}: no training curve"
        if method.offline_of == method.name:
            self._manifest(env.name, folder / "meta_train" / "manifest.json")
            method.offline_metrics[seed] = self._metrics(
                folder / "meta_train" / "metrics.csv",
                Missing(what, f"seed {seed}", "offline phase"),
            )
        rounds = []
        for number in range(1, cf.num_rounds(self.run, env.name, method.name) + 1):
            this = folder / f"round{number}"
            for stage in ("rollout", "relabel", "finetune"):
                self._manifest(env.name, this / stage / "manifest.json")
            rounds.append(
                self._metrics(
                    this / "finetune" / "metrics.csv",
                    Missing(what, f"seed {seed}", f"round {number}"),
                )
            )
        method.online_metrics[seed] = _join(rounds)

    def _evaluation(self, env: EnvResults, method: MethodResults, seed: int, number: int) -> None:
        owner = self.plan.evaluated_as(env.name, method.name, number)
        path = self._evaluation_path(env.name, owner, seed, number)
        what = f"{env.name}, {method.label}: not evaluated"
        if not self._found(path, Missing(what, f"seed {seed}", f"round {number}")):
            return
        store = read_store(path, "evaluation", env_id=env.tasks.env_id)
        for key, value in (("method", owner), ("seed", seed), ("round", number)):
            if store.attributes[key] != value:
                raise StoreError(
                    f"the evaluation of another {key}",
                    where=path,
                    expected=value,
                    found=store.attributes[key],
                    fix=rerun(path),
                )
        arms: dict[str, dict[str, np.ndarray]] = {}
        known = len(env.tasks.parameters)
        for name, array in store.arrays.items():
            _, arm, field_name = name.split("/")
            arms.setdefault(arm, {})[field_name] = array
            if field_name == "task_id" and not np.isin(array, np.arange(known)).all():
                raise StoreError(
                    "the evaluation knows tasks that the task list does not",
                    where=path,
                    expected=f"0 to {known - 1}",
                    found=f"task {array.max()}",
                    fix=rerun(path),
                )
        manifest = self._manifest(env.name, path.parent / "manifest.json") or {}
        mse = manifest.get("offline_decoder_mse")
        told = {name: manifest.get(name) for name in DIAGNOSIS}
        method.evaluations[seed, number] = Evaluation(
            int(store.attributes["self_supervised_steps"]),
            arms,
            tuple(store.attributes["measures"]),
            float(mse) if isinstance(mse, int | float) else np.nan,
            str(store.attributes["count"]),
            {name: float(v) for name, v in told.items() if isinstance(v, int | float)},
        )

    def _evaluation_path(self, env: str, method: str, seed: int, number: int) -> Path:
        folder = self.root / env / method / f"seed{seed}" / f"round{number}"
        return folder / "evaluate" / "returns.zarr"

    def _manifest(
        self, env: str, path: Path, missing: Missing | None = None
    ) -> dict[str, Any] | None:
        seen = path.relative_to(self.root).as_posix() in self.results.read
        if not self._found(path, missing):
            return None
        manifest = read_manifest(path)
        if not seen:
            place = path.relative_to(self.root).as_posix()
            self.results.times.append(stage_time(env, place, manifest))
            for library, version in manifest["versions"].items():
                self.results.versions.setdefault(library, set()).add(version)
        return manifest

    def _metrics(self, path: Path, missing: Missing) -> Columns:
        return read_metrics(path) if self._found(path, missing) else {}


def read_metrics(path: Path) -> Columns:
    """Read a table of metrics.

    Args:
        path: A metrics.csv of a stage.

    Returns:
        Columns by name.

    Raises:
        StoreError: Not a table of numbers.
    """
    try:
        head, *lines = path.read_text(encoding="utf-8").splitlines() or [""]
        names = head.split(",")
        rows = [[float(cell) if cell else np.nan for cell in line.split(",")] for line in lines]
        table = np.array(rows, dtype=np.float64).reshape(len(rows), len(names))
    except ValueError as fault:
        raise StoreError(
            "the metrics are damaged", where=path, found=fault, fix=rerun(path)
        ) from fault
    return {name: table[:, column] for column, name in enumerate(names)}


def _join(tables: list[Columns]) -> Columns:
    names = dict.fromkeys(name for table in tables for name in table)
    return {
        name: np.concatenate(
            [t.get(name, np.full(len(next(iter(t.values()))), np.nan)) for t in tables if t]
        )
        for name in names
    }
