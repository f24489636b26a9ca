"""Rows ``memory-<stage>``: what a stage of the paper's size holds in memory, against four GiB.

The stores are as long and as wide as the paper's, their numbers are repeated; the stages take two
updates and two episodes, since neither makes them hold more.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from benchmarks.measure import Effort, Label, Row, make_row
from benchmarks.tiny_run import ROOT, environment, scratch
from pipeline.checkpoint import read_checkpoint, write_checkpoint
from pipeline.store import write_store
from smac_core.envs.definition import Environment
from smac_core.envs.lookup import load_environment

STAGES = ("meta_train", "rollout", "relabel", "finetune", "evaluate")
LIMIT = 4096.0  # MiB
STEPS = 200  # of an episode
VISITS = 5  # tasks a round and an iteration, of 1000 steps each
# Sizes are the paper's; time and updates are not what is measured.
PRESET = """
envs: [{env}]
methods: [smac]
seeds: [0]
rounds: {rounds}
settings:
  all:
    meta_train: {{updates: 2}}
    finetune: {{updates: 2}}
    rollout: {{tasks_per_round: 1}}
    evaluate: {{train_tasks: 2}}
"""
_BOTH = ("rollouts", "rewards")


@dataclass(frozen=True)
class Size:
    """How much data a domain has at the end of the paper's budget.

    Args:
        env: The environment.
        definition: Its class.
        tasks: Training tasks.
        iterations: Of the collection.
        rounds: Of the self-supervised phase.
    """

    env: str
    definition: str
    tasks: int
    iterations: int
    rounds: int


HUMANOID = Size("humanoid-dir", "smac_core.envs.humanoid_dir:HumanoidDir", 50, 100, 51)
ANT = Size("ant-dir", "smac_core.envs.ant_dir:AntDir", 100, 100, 501)
SHORT = Size("point-robot", "smac_core.envs.point_robot:PointRobot", 100, 1, 2)


def rows(name: str, effort: Effort) -> Iterator[Row]:
    """Measure the peak memory of a stage in its last round.

    Args:
        name: ``memory-<stage>``.
        effort: How long; a quick one takes a short run.

    Yields:
        One row an environment.
    """
    stage = name.removeprefix("memory-")
    for size in [SHORT] if effort.quick else [HUMANOID, ANT]:
        peak = _peak(stage, size)
        label = Label(name, f"{size.env}, round {size.rounds}", "MiB")
        yield make_row(label, "4 GiB", np.array([peak]), np.array([LIMIT]))


def _peak(stage: str, size: Size) -> float:
    """Run a stage and read its manifest (MiB)."""
    folder = _prepared(size)
    out = _run(folder, size, stage)
    manifest = json.loads(out.with_name("manifest.json").read_text())
    return float(manifest["peak_memory_mib"])


@cache
def _prepared(size: Size) -> Path:
    """Write everything that the last round reads."""
    folder = scratch()
    (folder / "preset.yaml").write_text(PRESET.format(env=size.env, rounds=size.rounds))
    env = load_environment(size.definition)
    _run(folder, size, "tasks")
    initial = np.repeat(np.arange(size.tasks), 2000 // STEPS)
    later = np.arange(size.iterations * VISITS) % size.tasks
    _write_episodes(
        folder / "collect/transitions.zarr", env, np.append(initial, np.repeat(later, 5)), 0
    )
    first = _run(folder, size, "meta_train")
    checkpoint = read_checkpoint(first)
    last = folder / f"round{size.rounds}"
    for number in range(1, size.rounds + 1):
        task_id = np.repeat((np.arange(VISITS) + number) % size.tasks, 5)
        store = folder / f"round{number}/rollout/transitions.zarr"
        digest = _write_episodes(store, env, task_id, number)
        write_store(
            folder / f"round{number}/relabel/rewards.zarr",
            "rewards",
            {
                "data/generated_reward": np.zeros(len(task_id) * STEPS, dtype=np.float32),
                "meta/episode_latent": np.zeros((len(task_id), 5), dtype=np.float32),
            },
            {"env_id": env.env_id, "reward_source": "decoder", "rollout_digest": digest},
        )
    write_checkpoint(
        last / "before/checkpoint.safetensors",
        checkpoint.tensors,
        {**checkpoint.metadata, "round": size.rounds - 1},
    )
    return folder


def _write_episodes(path: Path, env: Environment, task_id: np.ndarray, iteration: int) -> str:
    """Write a transitions store of whole episodes; with rewards where it is the collection's."""
    num, count = len(task_id) * STEPS, len(task_id)
    block = np.random.default_rng(iteration).uniform(-1, 1, (STEPS, env.obs_dim + env.action_dim))
    values = np.tile(block.astype(np.float32), (count, 1))
    ends = np.arange(1, count + 1, dtype=np.int64) * STEPS
    truncated = np.zeros(num, dtype=bool)
    truncated[ends - 1] = True
    arrays = {
        "data/obs": np.ascontiguousarray(values[:, : env.obs_dim]),
        "data/action": np.ascontiguousarray(values[:, env.obs_dim :]),
        "data/terminated": np.zeros(num, dtype=bool),
        "data/truncated": truncated,
        "data/task_id": np.repeat(task_id, STEPS).astype(np.int32),
        "meta/episode_ends": ends,
        "meta/final_obs": np.zeros((count, env.obs_dim), dtype=np.float32),
        "meta/episode_task_id": task_id.astype(np.int32),
        "meta/episode_source": np.full(count, 0 if iteration == 0 else 1, dtype=np.int8),
        "meta/episode_iteration": np.full(count, iteration, dtype=np.int32),
        "meta/episode_ok": np.ones(count, dtype=bool),
    }
    if iteration == 0:
        arrays["data/reward"] = np.zeros(num, dtype=np.float32)
    attributes = {
        "env_id": env.env_id,
        "env_params": {},
        "obs_dim": env.obs_dim,
        "action_dim": env.action_dim,
        "reward_source": "environment" if iteration == 0 else "none",
    }
    return write_store(path, "transitions", arrays, attributes)


# What each stage is given, in the names of its command line; see _options.
_GIVEN = {
    "tasks": (),
    "meta_train": ("method", "seed", "tasks", "transitions"),
    "rollout": ("method", "seed", "round", "tasks", "transitions", "checkpoint", *_BOTH),
    "relabel": ("method", "seed", "round", "tasks", "transitions", "checkpoint", "rollout"),
    "finetune": ("method", "seed", "round", "tasks", "transitions", "checkpoint", *_BOTH),
    "evaluate": ("method", "seed", "round", "tasks", "transitions", "checkpoint"),
}


def _options(folder: Path, size: Size, stage: str) -> dict[str, object]:
    """Fill in the command line of a stage of the last round."""
    offline = folder / "meta_train/checkpoint.safetensors"
    last = folder / f"round{size.rounds}"
    read = folder / f"round{size.rounds - (stage == 'rollout')}"
    outs = {"tasks": folder / "tasks.json", "meta_train": offline}
    suffix = "safetensors" if stage == "finetune" else "zarr"
    values: dict[str, object] = {
        "env": size.env,
        "method": "smac",
        "seed": 0,
        "round": size.rounds - (stage == "evaluate"),  # of the checkpoint before the last round
        "tasks": folder / "tasks.json",
        "transitions": folder / "collect/transitions.zarr",
        "checkpoint": offline if stage == "relabel" else last / "before/checkpoint.safetensors",
        "rollout": last / "rollout/transitions.zarr",
        "rollouts": read / "rollout/transitions.zarr",
        "rewards": read / "relabel/rewards.zarr",
        "config": folder / "preset.yaml",
        "out": outs.get(stage, folder / "out" / stage / f"out.{suffix}"),
    }
    return {name: values[name] for name in ("config", "env", *_GIVEN[stage], "out")}


def _run(folder: Path, size: Size, stage: str) -> Path:
    """Run a stage of the last round; gives its output."""
    options = _options(folder, size, stage)
    words = [sys.executable, "-m", f"pipeline.{stage}"]
    words += [str(word) for name, value in options.items() for word in (f"--{name}", value)]
    done = subprocess.run(
        words, cwd=ROOT, env=environment(ROOT), capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"{stage} failed:\n{done.stderr}")
    return Path(str(options["out"]))
