"""Stage ``meta_train`` of the MAML methods: learn to adapt by gradient, from offline episodes."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from pipeline.cli import stage_main, stage_parser
from pipeline.data import as_transitions, offline_rows
from pipeline.manifest import path_digest
from pipeline.sections_maml import MamlTrainConfig
from pipeline.stage import StageRun, begin_seeds, one_by_one
from pipeline.store import read_store
from pipeline.task_list import read_tasks
from pipeline.training import (
    Resume,
    forget,
    offline_origin,
    resume_state,
    single_thread,
    train,
    write_outputs,
)
from smac_core.config import SliceConfig
from smac_core.dataset import Transitions
from smac_core.envs.definition import Environment
from smac_core.errors import ConfigError, StoreError
from smac_core.learner import resolve_device
from smac_core.maml.config import MamlConfig, needs_values
from smac_core.maml.data import Columns, MamlSampler, Rows, episode_columns
from smac_core.maml.learner import MamlEngine, MamlLearner
from smac_core.networks import Shapes

MANY_SEEDS = True  # one job may serve several seeds


def make_parser() -> argparse.ArgumentParser:
    """Describe the arguments."""
    return stage_parser(
        "meta_train",
        "Meta-train a method that adapts by gradient on the collected transitions.",
        ("env", "method", "seed", "tasks", "transitions"),
        many_seeds=MANY_SEEDS,
    )


def read_episodes(path: Path, env: Environment, *, rewards: bool) -> tuple[Transitions, Rows]:
    """Read a transitions store with its episodes.

    Args:
        path: The store.
        env: The environment that it must belong to.
        rewards: Whether returns will be read; behaviour cloning does without.

    Returns:
        The rows as slices choose them, and as the episodes that they are parts of.

    Raises:
        StoreError: Damaged, of another environment, or without the rewards that are read.
    """
    store = read_store(path, "transitions", env_id=env.env_id)
    if rewards and "data/reward" not in store.arrays:
        raise StoreError(
            "offline data without rewards",
            where=path,
            expected="a store of the collect stage, whose returns this method learns from",
            found=f"reward_source {store.attributes.get('reward_source')!r}",
            fix="pass results/<env>/collect/transitions.zarr",
        )
    rows = as_transitions(store)
    ends = store.arrays["meta/episode_ends"]
    lengths = np.diff(ends, prepend=0)
    ended = np.zeros(len(rows), dtype=bool)
    ended[ends - 1] = store.arrays["meta/episode_ok"]  # a diverged simulator ended nothing
    episodes = Rows(
        obs=rows.obs,
        action=rows.action,
        reward=rows.reward,
        next_obs=rows.next_obs,
        terminated=rows.terminated > 0,
        episode=np.repeat(np.arange(len(ends)), lengths),
        t=np.arange(len(rows)) - np.repeat(ends - lengths, lengths),
        ended=ended,
    )
    return rows, episodes


def task_columns(
    rows: Transitions,
    episodes: Rows,
    task_ids: Sequence[int],
    selection: SliceConfig,
    config: MamlConfig,
) -> list[Columns]:
    """Compute returns within what the phase may see of each task.

    Args:
        rows: All rows.
        episodes: The same as parts of episodes.
        task_ids: Training tasks.
        selection: What the phase sees.
        config: Discount and scale.

    Returns:
        The columns of each task.
    """
    return [
        episode_columns(
            episodes.take(chosen),
            config.discount,
            config.reward_scale,
            bootstrap_terminal=config.bootstrap_terminal,
        )
        for chosen in offline_rows(rows, task_ids, selection)
    ]


def metadata(stage: StageRun) -> dict[str, object]:
    """Say what the checkpoint is.

    Args:
        stage: The running stage.

    Returns:
        JSON metadata.
    """
    config = stage.section
    return {
        **offline_origin(stage, "maml"),
        "networks": asdict(config.networks),
        "learner": asdict(config.learner),
        "slices": [asdict(config.replay), asdict(config.context or config.replay)],
        "lineage": [{"stage": "meta_train", "transitions": path_digest(stage.args.transitions)}],
    }


def check_config(config: MamlTrainConfig) -> None:
    """Refuse values that are fine one by one but cannot be trained with, before anything is read.

    Args:
        config: The section.

    Raises:
        ConfigError: The first of them.
    """
    cfg = config.learner
    if cfg.inner == "awr" and not config.networks.policy:
        raise ConfigError(
            "an advantage head without a hidden layer to read",
            where="meta_train.networks.policy",
            expected="at least one width",
        )
    if cfg.ratio_limits[0] > cfg.ratio_limits[1]:
        raise ConfigError(
            "limits the wrong way round",
            where="meta_train.learner.ratio_limits",
            expected="the lower first",
            found=list(cfg.ratio_limits),
        )
    if cfg.weight_clip == "both" and cfg.max_weight < 1.0:
        raise ConfigError(
            "a largest weight below the smallest, its inverse",
            where="meta_train.learner.max_weight",
            expected="at least 1 with weight_clip: both",
            found=cfg.max_weight,
        )


def train_seed(stage: StageRun, label: str) -> Resume:
    """Take one seed's updates, going on where a killed run stopped, and write its outputs.

    Args:
        stage: The running stage.
        label: For the progress line.

    Returns:
        The seed's resume state, to be cleared when the whole job is done.
    """
    args = stage.args
    config: MamlTrainConfig = stage.section
    cfg = config.learner
    single_thread(cfg.matmul_precision)
    inputs = {"tasks": args.tasks, "transitions": args.transitions}
    resume = resume_state(args.out, stage.key(inputs))
    train_ids = read_tasks(args.tasks, stage.env).train
    rows, episodes = read_episodes(args.transitions, stage.env, rewards=needs_values(cfg))
    slices = (config.context or config.replay, config.replay)
    inner, outer = (task_columns(rows, episodes, train_ids, s, cfg) for s in slices)
    sampler = MamlSampler(inner, outer, (cfg.num_tasks, cfg.inner_rows, cfg.outer_rows), args.seed)
    device = resolve_device(cfg.device)
    shapes = Shapes(stage.env.obs_dim, stage.env.action_dim)
    learner = MamlLearner(shapes, config.networks, cfg, args.seed, device)
    engine = MamlEngine(learner, sampler)
    train(learner, engine, config.updates, cfg.log_every, [resume], label)
    resume.save(learner.state())
    extra = {"device": str(device), "updates": config.updates}
    write_outputs(stage, learner.state(), metadata(stage), resume.rows, inputs, extra)
    return resume


def run(args: argparse.Namespace) -> None:
    """Write each seed's checkpoint.

    Args:
        args: Parsed arguments.
    """
    with begin_seeds("meta_train", args, "pipeline.maml_train") as runs:
        check_config(runs[0].section)
        forget([train_seed(stage, "meta-gradient updates") for stage in one_by_one(runs)])


if __name__ == "__main__":
    stage_main(run, make_parser())
