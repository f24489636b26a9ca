"""Stage ``meta_train`` of BOReL: the belief from offline trajectories, then SAC on hyper-states."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from pipeline.cli import stage_main, stage_parser
from pipeline.data import as_transitions, offline_rows
from pipeline.manifest import path_digest
from pipeline.sections_borel import BorelTrainConfig
from pipeline.stage import StageRun, begin_seeds, one_by_one
from pipeline.store import read_store
from pipeline.task_list import TaskList, read_tasks
from pipeline.training import (
    Resume,
    forget,
    offline_origin,
    resume_state,
    single_thread,
    train,
    write_outputs,
)
from smac_core.borel.learner import BorelData, BorelLearner, choose_decoders
from smac_core.borel.sac import hyper_shapes
from smac_core.borel.trajectories import EpisodeTable, table_of_episodes
from smac_core.envs.definition import Environment
from smac_core.errors import ConfigError, StoreError
from smac_core.learner import resolve_device
from smac_core.networks import Shapes

MANY_SEEDS = True  # one job may serve several seeds


def make_parser() -> argparse.ArgumentParser:
    """Describe the arguments."""
    return stage_parser(
        "borel_train",
        "Meta-train BOReL offline on the collected transitions.",
        ("env", "method", "seed", "tasks", "transitions"),
        many_seeds=MANY_SEEDS,
    )


def check_config(env: Environment, config: BorelTrainConfig) -> None:
    """Refuse what cannot be trained, before anything is read.

    Args:
        env: The environment.
        config: The section.

    Raises:
        ConfigError: Rewards of other tasks are asked for where rows do not determine them, or a
            decoder without a hidden layer.
    """
    if not config.belief.decoder:
        raise ConfigError(
            "a decoder without a hidden layer, whose first layer is the one that is shared",
            where="meta_train.belief.decoder",
            expected="at least one width",
        )
    if config.relabel_probability and env.not_in_rows is not None:
        raise ConfigError(
            "BOReL relabels rewards, which stored transitions do not determine here",
            where=f"environment {env.env_id}",
            found=f"missing: {env.not_in_rows}",
            fix="use the method borel-no-rr, which leaves rewards as they are",
        )


def read_table(
    path: Path, env: Environment, tasks: TaskList, config: BorelTrainConfig
) -> EpisodeTable:
    """Read the episodes of the training tasks.

    Args:
        path: A transitions store with true rewards.
        env: The environment that it must belong to.
        tasks: All tasks.
        config: Says which rows are used.

    Returns:
        The episodes that lie in the slice as a whole.

    Raises:
        StoreError: Damaged, of another environment, without rewards, or without whole episodes.
    """
    store = read_store(path, "transitions", env_id=env.env_id)
    if "data/reward" not in store.arrays:
        raise StoreError(
            "offline data without rewards, which BOReL's belief is made of",
            where=path,
            expected="a store of the collect stage",
            found=f"reward_source {store.attributes.get('reward_source')!r}",
            fix="pass results/<env>/collect/transitions.zarr",
        )
    rows = as_transitions(store)
    used = offline_rows(rows, tasks.train, config.replay)
    parameters = tasks.parameters[list(tasks.train)]
    ends = store.arrays["meta/episode_ends"]
    return table_of_episodes(rows, ends, used, parameters, tasks.train)


def _metadata(stage: StageRun, shapes: Shapes) -> dict[str, object]:
    """Say what the checkpoint is, for the acting side and for people."""
    config: BorelTrainConfig = stage.section
    belief = choose_decoders(config.belief, stage.env)
    layers = hyper_shapes(shapes, belief.latent_dim, config.sac)
    return {
        **offline_origin(stage, "borel"),
        "latent_dim": belief.latent_dim,
        "sizes": {name: list(shape.sizes) for name, shape in layers.items()},
        "slices": [asdict(config.replay)] * 2,
        "networks": {"belief": asdict(belief), "sac": asdict(config.sac)},
        "episodes": config.episodes,
        "relabel_probability": config.relabel_probability,
        "lineage": [{"stage": "meta_train", "transitions": path_digest(stage.args.transitions)}],
    }


def train_seed(stage: StageRun, table: EpisodeTable, device: torch.device, *, keep: bool) -> Resume:
    """Train one seed and write its outputs.

    Args:
        stage: The running stage.
        table: The episodes.
        device: Where to compute.
        keep: Leave a state of the finished training, to write the outputs again.

    Returns:
        The resume state, to be cleared when every seed is done.
    """
    config: BorelTrainConfig = stage.section
    env, args = stage.env, stage.args
    shapes = Shapes(env.obs_dim, env.action_dim)
    share = config.relabel_probability
    data = BorelData(table, config.episodes, (share, env.reward_of_rows) if share else None)
    belief = choose_decoders(config.belief, env)
    learner = BorelLearner(shapes, belief, config.sac, data, args.seed, device)
    inputs = {"tasks": args.tasks, "transitions": args.transitions}
    resume = resume_state(args.out, stage.key(inputs))
    total = config.belief.updates + config.updates
    train(learner, learner, total, config.learner.log_every, [resume], "offline updates")
    state = learner.state()
    if keep:
        resume.save(state)
    extra = {"device": str(device), "updates": total}
    write_outputs(stage, state, _metadata(stage, shapes), resume.rows, inputs, extra)
    return resume


def _train_all(runs: Sequence[StageRun]) -> None:
    first = runs[0]
    config: BorelTrainConfig = first.section
    check_config(first.env, config)
    single_thread(config.learner.matmul_precision)
    device = resolve_device(config.learner.device)
    tasks = read_tasks(first.args.tasks, first.env)
    table = read_table(first.args.transitions, first.env, tasks, config)
    keep = len(runs) > 1
    forget([train_seed(run, table, device, keep=keep) for run in one_by_one(runs)])


def run(args: argparse.Namespace) -> None:
    """Write each seed's offline checkpoint.

    Args:
        args: Parsed arguments.

    Source: baselines.md section 3.
    """
    with begin_seeds("meta_train", args, module="pipeline.borel_train") as runs:
        _train_all(runs)


if __name__ == "__main__":
    stage_main(run, make_parser())
