"""Small stores, a small run of every stage, and broken disks that several tests share."""

from __future__ import annotations

import errno
import importlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline import cli, files, store
from pipeline import config as cf
from pipeline.checkpoint import read_checkpoint

Arrays = dict[str, np.ndarray]


def make_transitions(lengths: tuple[int, ...] = (3, 1, 4), obs_dim: int = 2) -> Arrays:
    rng = np.random.default_rng(len(lengths))
    rows, episodes = sum(lengths), len(lengths)
    ends = np.cumsum(lengths, dtype=np.int64)
    task_id = np.arange(episodes, dtype=np.int32) % 2
    truncated = np.zeros(rows, dtype=bool)
    truncated[ends - 1] = True
    return {
        "data/obs": rng.normal(size=(rows, obs_dim)).astype(np.float32),
        "data/action": rng.uniform(-1, 1, (rows, 2)).astype(np.float32),
        "data/position": np.zeros((rows, 2), dtype=np.float32),
        "data/reward": rng.normal(size=rows).astype(np.float32),
        "data/terminated": np.zeros(rows, dtype=bool),
        "data/truncated": truncated,
        "data/task_id": np.repeat(task_id, lengths),
        "meta/episode_ends": ends,
        "meta/final_obs": rng.normal(size=(episodes, obs_dim)).astype(np.float32),
        "meta/episode_task_id": task_id,
        "meta/episode_buffer": task_id,
        "meta/episode_source": np.ones(episodes, dtype=np.int8),
        "meta/episode_iteration": np.zeros(episodes, dtype=np.int32),
        "meta/episode_ok": np.ones(episodes, dtype=bool),
    }


def make_attributes(**changes: Any) -> dict[str, Any]:
    return {
        "env_id": "point-robot",
        "env_params": {"horizon": 20},
        "obs_dim": 2,
        "action_dim": 2,
        "reward_source": "environment",
    } | changes


@pytest.fixture
def transitions() -> Callable[..., Arrays]:
    return make_transitions


@pytest.fixture
def attributes() -> Callable[..., dict[str, Any]]:
    return make_attributes


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A sound transitions store."""
    store.write_store(tmp_path / "a.zarr", "transitions", make_transitions(), make_attributes())
    return tmp_path / "a.zarr"


def read_tree(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


@pytest.fixture
def tree() -> Callable[[Path], dict[str, bytes]]:
    return read_tree


@pytest.fixture
def full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on a disk of 256 KiB; where nothing can be mounted, one whose fsync says so."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:

        def full(path: Path) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

        monkeypatch.setattr(files, "_sync", full)
    yield folder
    if mounted:
        subprocess.run(["umount", str(folder)], check=True)


TINY = """
envs: [point-robot, cheetah-vel]
methods: [smac, oracle, meta-bc]
seeds: [0]
rounds: 2
settings:
  all:
    tasks: {num_train: 4, num_test: 2, num_validation: 1}
    collect:
      initial_steps: 40
      networks: &tiny {encoder: [8], decoder: [8], critic: [8, 8], policy: [8, 8]}
      learner: &learner {num_tasks: 2, rows_per_task: 8, context_size: 4, log_every: 5}
    experts:
      initial_steps: 40
      iterations: 1
      tasks_per_iteration: 2
      updates_per_iteration: 5
      visit: {prior_steps: 20, posterior_steps: 20}
      networks: *tiny
      learner: *learner
    demonstrations: {episodes: 2}
    meta_train: {updates: 12, networks: *tiny, learner: *learner}
    rollout: {tasks_per_round: 2, visit: {prior_steps: 40, posterior_steps: 40, context_size: 8}}
    relabel: {context_size: 8}
    finetune: {updates: 10, learner: *learner}
    evaluate: {train_tasks: 3, adaptation: {repeats: 2, context_size: 8}}
  cheetah-vel:
    collect: {policy: untrained}
"""
_FILES = {
    "collect": "collect/transitions.zarr",
    "experts": "experts/checkpoint.safetensors",
    "demonstrations": "demonstrations/transitions.zarr",
    "meta_train": "meta_train/checkpoint.safetensors",
    "rollout": "rollout/transitions.zarr",
    "relabel": "relabel/rewards.zarr",
    "finetune": "finetune/checkpoint.safetensors",
    "evaluate": "evaluate/returns.zarr",
}


@dataclass(frozen=True)
class Run:
    """A results folder, and the stages that fill it, each called in this process."""

    root: Path

    def path(
        self,
        stage: str,
        number: int = 1,
        *,
        env: str = "point-robot",
        method: str = "smac",
        seed: int = 0,
    ) -> Path:
        """The output of a stage."""
        folder = self.root / "results" / env
        if stage == "tasks":
            return folder / "tasks.json"
        if stage not in {*cf.ENV_STAGES, "meta_train"}:
            folder = folder / method / f"seed{seed}" / f"round{number}"
        elif stage == "meta_train":
            folder = folder / ("smac" if method == "oracle" else method) / f"seed{seed}"
        return folder / _FILES[stage]

    def checkpoint(self, number: int, **which: Any) -> Path:
        """The checkpoint after a round."""
        return self.path("finetune" if number else "meta_train", number, **which)

    def options(self, stage: str, number: int = 1, **which: Any) -> dict[str, Any]:
        """What the command line of a stage holds, as the Snakefile gives it."""
        who = {"env": "point-robot", "method": "smac", "seed": 0} | which
        before = number - (stage in {"rollout", "finetune"})
        past = range(1, number + (stage == "finetune"))
        offline = {"tasks": self.path("tasks", **who)}
        if stage not in cf.ENV_STAGES:
            offline["transitions"] = self.path("collect", **who)
        start = {"checkpoint": self.checkpoint(0 if stage == "relabel" else before, **who)}
        stores = {
            "rollouts": [self.path("rollout", r, **who) for r in past],
            "rewards": [self.path("relabel", r, **who) for r in past],
        }
        given: dict[str, Any] = {"config": self.root / "preset.yaml", "env": who["env"]}
        if stage == "demonstrations":
            given["checkpoint"] = self.path("experts", **who)
        if stage not in cf.ENV_STAGES:
            given |= {"method": who["method"], "seed": who["seed"]}
        if stage in {"rollout", "relabel", "finetune", "evaluate"}:
            given |= {"round": number, **start}
        given |= {} if stage == "tasks" else offline
        given |= stores if stage in {"rollout", "finetune"} else {}
        given |= {"rollout": self.path("rollout", number, **who)} if stage == "relabel" else {}
        return given | {"out": self.path(stage, number, **who)}

    def words(
        self, stage: str, number: int = 1, *, changes: dict[str, Any] | None = None, **which: Any
    ) -> list[str]:
        """The command line of a stage; `changes` replace options."""
        words = []
        for name, value in (self.options(stage, number, **which) | (changes or {})).items():
            words += [f"--{name}", *map(str, value if isinstance(value, list) else [value])]
        return words

    def call(self, stage: str, *where: int, **options: Any) -> int:
        """Runs a stage and returns its exit code."""
        module = importlib.import_module(f"pipeline.{stage}")
        return cli.run(module.run, module.make_parser(), self.words(stage, *where, **options))

    @staticmethod
    def transitions(path: Path) -> store.Store:
        """Reads a transitions store."""
        return store.read_store(path, "transitions", env_id="point-robot")

    @staticmethod
    def tensors(path: Path) -> Arrays:
        """Reads the tensors of a checkpoint."""
        return read_checkpoint(path, env_id="point-robot").tensors

    def rewrite(self, path: Path, out: Path, **changes: np.ndarray) -> Path:
        """Writes a transitions store with other arrays; `data__obs` stands for `data/obs`."""
        found = store.read_store(path, "transitions")
        new = {name.replace("__", "/"): array for name, array in changes.items()}
        store.write_store(out, "transitions", found.arrays | new, found.attributes)
        return out

    def section(self, stage: str, definition: str | None = None, **changes: Any) -> str:
        """The JSON that --config takes, with changes of the section of point-robot and smac."""
        run = cf.read_run(str(self.root / "preset.yaml"))
        document = json.loads(cf.section_json(run, stage, "point-robot", "smac"))
        document["env"]["definition"] = definition or document["env"]["definition"]
        for key, value in changes.items():
            inner = document["section"].get(key)
            document["section"][key] = inner | value if isinstance(inner, dict) else value
        return json.dumps(document)


def _fill(run: Run) -> None:
    jobs: list[tuple[str, tuple[int, ...], dict[str, Any]]] = []
    for env in ("point-robot", "cheetah-vel"):
        jobs += [(stage, (), {"env": env}) for stage in ("tasks", "collect", "meta_train")]
    jobs += [("experts", (), {}), ("demonstrations", (), {})]
    jobs += [("meta_train", (), {"method": "meta-bc"})]
    jobs += [("evaluate", (0,), {}), ("evaluate", (0,), {"method": "meta-bc"})]
    for method, last in (("smac", 2), ("oracle", 1)):
        for number in range(1, last + 1):
            for stage in ("rollout", "relabel", "finetune"):
                jobs += [(stage, (number,), {"method": method})]
    jobs += [("evaluate", (1,), {})]
    for stage, where, which in jobs:
        assert run.call(stage, *where, **which) == 0, (stage, where, which)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Every stage run once, tiny. Read it; do not change it."""
    run = Run(tmp_path_factory.mktemp("tiny"))
    (run.root / "preset.yaml").write_text(TINY)
    _fill(run)
    return run


@pytest.fixture
def copied(finished: Run, tmp_path: Path) -> Run:
    """A copy of that run, to change and to break; without round 0, which has many files."""
    ignored = shutil.ignore_patterns("round0")
    shutil.copytree(finished.root, tmp_path / "run", ignore=ignored)
    return Run(tmp_path / "run")


@pytest.fixture
def refused(copied: Run, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Calls a stage that must refuse and leave the disk as it was; gives its one line."""

    def snapshot() -> dict[str, bytes]:
        found = read_tree(copied.root)
        return {name: data for name, data in found.items() if not name.endswith("/.lock")}

    def call(stage: str, *where: int, **options: Any) -> str:
        before = snapshot()
        capsys.readouterr()
        assert copied.call(stage, *where, **options) == 2
        *said, line = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ")
        # A stage that got as far as training has told of its progress.
        assert all(re.fullmatch(r"[a-z0-9' ]+ updates \d+/\d+ \d+ s .*", text) for text in said)
        assert snapshot() == before
        return line

    return call
