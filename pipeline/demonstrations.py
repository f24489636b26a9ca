"""Stage ``demonstrations``: what the expert does in every training task, with true rewards."""

from __future__ import annotations

import argparse

import numpy as np

from pipeline.cli import stage_main, stage_parser
from pipeline.data import write_episodes
from pipeline.expert_policy import read_expert
from pipeline.manifest import path_digest
from pipeline.schema import EPISODE_SOURCES
from pipeline.sections import DemonstrationsConfig
from pipeline.stage import begin, lock
from pipeline.task_list import read_tasks
from smac_core.agent import Posteriors
from smac_core.envs.definition import Environment
from smac_core.envs.episodes import BatchDriver, Episodes
from smac_core.episode_rows import flatten
from smac_core.planning import plan_episodes

SHOWN = 0x64  # keeps these episodes apart from the streams of smac_core.planning


def make_parser() -> argparse.ArgumentParser:
    """Describe the arguments."""
    return stage_parser(
        "demonstrations",
        "Let the expert show every training task.",
        ("env", "tasks", "checkpoint"),
    )


def by_task(
    env: Environment, episodes: Episodes, tasks: np.ndarray, number: int
) -> dict[str, list[float]]:
    """Say what the expert's episodes are, task by task.

    Args:
        env: The environment.
        episodes: Of the expert, task by task.
        tasks: ``[E, task_dim]`` parameters.
        number: Episodes of a task.

    Returns:
        Means of return and of the environment's measures, a number a task.
    """
    measured = env.measure(episodes.path, episodes.length, tasks)
    columns = {"return": episodes.returns, **dict(zip(env.measure_units, measured.T, strict=True))}
    return {
        name: column.astype(np.float64).reshape(-1, number).mean(axis=1).tolist()
        for name, column in columns.items()
    }


def run(args: argparse.Namespace) -> None:
    """Write the demonstrations.

    Args:
        args: Parsed arguments.

    Source: baselines.md section 4, "Experts".
    """
    stage = begin("demonstrations", args)
    config: DemonstrationsConfig = stage.section
    tasks = read_tasks(args.tasks, stage.env)
    expert = read_expert(args.checkpoint, stage.env, args.tasks, tasks.parameters, tasks.train)
    task_id = np.repeat(np.asarray(tasks.train, dtype=np.int64), config.episodes)
    told = expert.latents[task_id]
    plan = plan_episodes(
        stage.env,
        [(config.seed, SHOWN, int(task), place, 1) for place, task in enumerate(task_id)],
        tasks.parameters[task_id],
        Posteriors(told, np.zeros_like(told)),
        resample_every_step=False,
    )
    control = expert.controller(sample=config.sample)
    with lock(args.out.parent):
        episodes = BatchDriver(stage.env).run(control, plan, rewards=True)
        rows = flatten(episodes)
        labels = {
            "task_id": task_id,
            "source": np.full(len(task_id), EPISODE_SOURCES["expert"]),
            "iteration": np.zeros(len(task_id), dtype=np.int64),
        }
        params = stage.env_config.params
        write_episodes(
            args.out,
            stage.env,
            rows,
            labels,
            params=params,
            rewards=True,
            tasks=path_digest(args.tasks),
        )
        measured = stage.env.summarise(rows.reward, rows.length, tasks.parameters[task_id])
        extra = {
            "transitions": int(rows.length.sum()),
            "mean_return": float(rows.returns.mean()),
            "expert_environment_steps": expert.metadata["environment_steps"],
            "by_task": by_task(stage.env, episodes, plan.task, config.episodes),
        }
        inputs = {"tasks": args.tasks, "checkpoint": args.checkpoint}
        stage.finish(inputs, {"transitions": args.out}, {**extra, **measured})


if __name__ == "__main__":
    stage_main(run, make_parser())
