"""Stage ``relabel``: one generated reward for every row of a rollout store.

The latent behind the labels is inferred from the task's *offline* data only: the decoder was
trained under that distribution of z, and exploration contexts carry no true reward.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np

from pipeline.cli import stage_main, stage_parser
from pipeline.data import as_transitions, check_round, episode_buffers, offline_rows, read_offline
from pipeline.models import read_model
from pipeline.sections import RelabelConfig
from pipeline.stage import StageRun, for_each_seed
from pipeline.store import Store, read_store, write_store
from pipeline.task_list import TaskList, read_tasks
from smac_core.agent import Agent
from smac_core.dataset import Transitions, context_features
from smac_core.errors import ConfigError, StoreError
from smac_core.planning import LABEL, generator

MANY_SEEDS = True  # one job may serve several seeds


def make_parser() -> argparse.ArgumentParser:
    """Describe the arguments."""
    return stage_parser(
        "relabel",
        "Label reward-free rollouts with the learned reward decoder.",
        (
            *("env", "method", "seed", "round", "tasks", "rollout", "transitions", "checkpoint"),
            "members",
        ),
        many_seeds=MANY_SEEDS,
    )


def _draw_contexts(
    stage: StageRun, tasks: TaskList, rollout: Store, context_rows: Sequence[np.ndarray]
) -> tuple[list[np.ndarray], list[np.random.Generator]]:
    """Draw the offline rows that each episode's task is inferred from."""
    args, config = stage.args, stage.section
    slots = {task: slot for slot, task in enumerate(tasks.train)}
    drawn, streams = [], []
    for episode, task in enumerate(episode_buffers(rollout)):
        if int(task) not in slots:
            raise StoreError(
                "rollout on a task without offline data",
                where=f"{args.rollout}, episode {episode}",
                expected="a training task",
                found=f"task {int(task)}",
                fix="explore training tasks only, or collect data for this one",
            )
        streams.append(generator((args.seed, LABEL, args.round, episode)))
        rows = context_rows[slots[int(task)]]
        drawn.append(rows[streams[-1].integers(0, len(rows), config.context_size)])
    return drawn, streams


def _latents(
    agent: Agent, offline: Transitions, drawn: Sequence[np.ndarray], noise: np.ndarray | None
) -> np.ndarray:
    """Infer one latent an episode: a sample, or without noise the mean."""
    contexts = []
    for rows in drawn:
        after = offline.next_obs[rows] if agent.context_next_obs else None
        contexts.append(
            context_features(offline.obs[rows], offline.action[rows], offline.reward[rows], after)
        )
    posterior = agent.infer(contexts)
    return posterior.mean if noise is None else posterior.sample(noise)


def _ensemble(stage: StageRun) -> list[Agent]:
    """Read the encoders and decoders of the other seeds.

    Raises:
        ConfigError: There is no other seed.
    """
    args = stage.args
    others = [path for path in args.members if path != args.checkpoint]
    if stage.section.ensemble != "none" and not others:
        raise ConfigError(
            "an ensemble of one",
            where=f"relabel, {args.method}, seed {args.seed}",
            expected="offline checkpoints of other seeds as --members",
            found=len(others),
            fix="run several seeds, or set relabel.ensemble: none",
        )
    asked = others if stage.section.ensemble != "none" else []
    return [read_model(path, stage.env, current_round=0).agent for path in asked]


def _decoded(stage: StageRun, tasks: TaskList, rollout: Store) -> dict[str, np.ndarray]:
    """Decode rewards under one latent an episode.

    Source: smac-reference section 5.2, point 1c.
    """
    args, config = stage.args, stage.section
    model = read_model(args.checkpoint, stage.env, current_round=0)
    agents = [model.agent, *_ensemble(stage)]
    offline = read_offline(args.transitions, stage.env, tasks.train, model.slices)
    context_rows = offline_rows(offline, tasks.train, model.slices[1])
    drawn, streams = _draw_contexts(stage, tasks, rollout, context_rows)
    dim = model.agent.latent_dim
    noise = np.stack([rng.standard_normal(dim, dtype=np.float32) for rng in streams])
    rows_of = as_transitions(rollout)
    lengths = np.diff(rollout.arrays["meta/episode_ends"], prepend=0)
    episode_of_row = np.repeat(np.arange(len(lengths)), lengths)
    latents = [
        _latents(a, offline, drawn, noise if config.latent == "sample" else None) for a in agents
    ]
    labels = [
        a.decode(rows_of.obs, rows_of.action, z, episode_of_row)
        for a, z in zip(agents, latents, strict=True)
    ]
    reward = np.min(labels, axis=0) if config.ensemble == "lowest" else labels[0]
    if config.ensemble == "mean":
        reward = np.mean(labels, axis=0, dtype=np.float64).astype(np.float32)
    if config.reward_range == "seen":
        replay_rows = offline_rows(offline, tasks.train, model.slices[0])
        seen = offline.reward[np.concatenate([*replay_rows, *context_rows])]
        reward = np.clip(reward, seen.min(), seen.max())
    return {"data/generated_reward": reward, "meta/episode_latent": latents[0]}


def label(stage: StageRun) -> None:
    """Label a rollout and write the labels.

    Args:
        stage: The running stage.

    Raises:
        StoreError: The rollout is of another round, or lacks the rewards that are to be copied.
    """
    args = stage.args
    config: RelabelConfig = stage.section
    tasks = read_tasks(args.tasks, stage.env)
    rollout = read_store(args.rollout, "transitions", env_id=stage.env.env_id)
    check_round(rollout, args.round)
    if config.rewards == "environment":
        if "data/reward" not in rollout.arrays:
            raise StoreError(
                "rollout without true rewards",
                where=args.rollout,
                expected="a reward array, for `relabel.rewards: environment`",
                found="reward_source 'none'",
                fix="set rollout.record_rewards: true for this method, or rewards: decoder",
            )
        arrays = {"data/generated_reward": rollout.arrays["data/reward"]}
    else:
        arrays = _decoded(stage, tasks, rollout)
    write_store(
        args.out,
        "rewards",
        arrays,
        {
            "env_id": stage.env.env_id,
            "reward_source": config.rewards,
            "rollout_digest": rollout.digest,
        },
    )
    inputs = {
        "tasks": args.tasks,
        "rollout": args.rollout,
        "transitions": args.transitions,
        "checkpoint": args.checkpoint,
    }
    if config.ensemble != "none":
        inputs |= {f"member{place}": path for place, path in enumerate(args.members)}
    reward = arrays["data/generated_reward"]
    extra = {"rows": len(reward), "mean_reward": float(reward.mean(dtype=np.float64))}
    stage.finish(inputs, {"rewards": args.out}, extra)


def run(args: argparse.Namespace) -> None:
    """Write the rewards of each seed's rollout.

    Args:
        args: Parsed arguments.
    """
    for_each_seed("relabel", args, label)


if __name__ == "__main__":
    stage_main(run, make_parser())
