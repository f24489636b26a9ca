"""Stage ``meta_train`` of GMPS and MAML-PG: on-policy batches with true rewards."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

import numpy as np

from pipeline.cli import Progress, stage_main, stage_parser
from pipeline.expert_policy import read_expert
from pipeline.manifest import path_digest
from pipeline.schema import EPISODE_SOURCES
from pipeline.sections_gmps import GmpsTrainConfig
from pipeline.stage import StageRun, begin_seeds, one_by_one
from pipeline.store import read_store
from pipeline.task_list import TaskList, read_tasks
from pipeline.training import (
    Resume,
    forget,
    offline_origin,
    resume_state,
    single_thread,
    write_outputs,
)
from smac_core.adaptation import MetaTest
from smac_core.config import AdaptationConfig
from smac_core.envs.definition import Environment
from smac_core.errors import ConfigError, StoreError
from smac_core.gmps.trainer import Demonstrations, GmpsTrainer, TrainingTasks
from smac_core.gmps_agent import PolicyGradientAgent
from smac_core.learner import resolve_device
from smac_core.planning import EVALUATE_TEST

MANY_SEEDS = True  # one job may serve several seeds


def make_parser() -> argparse.ArgumentParser:
    """Describe the arguments."""
    return stage_parser(
        "meta_train",
        "Meta-train a policy that adapts by policy gradient, guided by experts or not.",
        ("env", "method", "seed", "tasks", "transitions"),
        many_seeds=MANY_SEEDS,
    )


def expert_path(transitions: Path) -> Path:
    """Find the expert behind demonstrations, where the workflow puts it.

    Args:
        transitions: Store of the demonstrations.

    Returns:
        Path of the checkpoint.
    """
    return transitions.parent.parent / "experts" / "checkpoint.safetensors"


def read_demonstrations(
    path: Path, env: Environment, tasks: Path, task_ids: tuple[int, ...], number: int | None
) -> tuple[Demonstrations, ...]:
    """Read what experts show of each task.

    Args:
        path: A transitions store.
        env: The environment that it must belong to.
        tasks: The task list, which must be the store's own.
        task_ids: Training tasks.
        number: Episodes of a task that are used, the first ones; None: all.

    Returns:
        One a task.

    Raises:
        StoreError: Damaged, of another environment, task list or horizon, silent on its task list,
            or a task has too few episodes.
    """
    store = read_store(path, "transitions", env_id=env.env_id)
    digest, arrays = path_digest(tasks), store.arrays
    if (found := store.attributes.get("tasks")) != digest:
        told = "demonstrations that do not tell their tasks"
        raise StoreError(
            told if found is None else "demonstrations of other tasks",
            where=path,
            expected=f"attribute tasks {digest}" if found is None else digest,
            found=found,
            fix="make the demonstrations again with this tasks.json",
        )
    ends = arrays["meta/episode_ends"]
    length = np.diff(ends, prepend=0)
    # Where the simulator diverged, nobody was shown what to do.
    sound = arrays["meta/episode_ok"]
    expert = (arrays["meta/episode_source"] == EPISODE_SOURCES["expert"]) & sound
    complete = arrays["data/terminated"][ends - 1]
    wrong = expert & (length != env.horizon) & ~(complete & (length < env.horizon))
    if wrong.any():
        raise StoreError(
            "demonstrations of another horizon",
            where=path,
            expected=f"episodes of {env.horizon} steps, or that end in a terminal state",
            found=f"{int(length[wrong][0])} steps in episode {int(np.flatnonzero(wrong)[0])}",
            fix="make the demonstrations again for this environment",
        )
    shown = []
    for task in task_ids:
        own = np.flatnonzero(expert & (arrays["meta/episode_task_id"] == task))
        if len(own) < (number or 1):
            raise StoreError(
                "too few demonstrations of a task",
                where=path,
                expected=f"{number or 1} expert episodes of task {task}",
                found=len(own),
                fix="raise demonstrations.episodes, or lower meta_train.demonstrations",
            )
        rows = np.concatenate([np.arange(ends[e] - length[e], ends[e]) for e in own[:number]])
        position = arrays["data/position"][rows] if "data/position" in arrays else None
        shown.append(
            Demonstrations(arrays["data/obs"][rows], arrays["data/action"][rows], position)
        )
    return tuple(shown)


def check_config(config: GmpsTrainConfig, env: Environment) -> None:
    """Refuse values that cannot be trained with, before anything is read.

    Args:
        config: The section.
        env: The environment.

    Raises:
        ConfigError: The first of them.
    """
    cfg = config.learner
    where = "meta_train.learner"
    if cfg.ratio_limits is not None and cfg.ratio_limits[0] > cfg.ratio_limits[1]:
        raise ConfigError(
            "limits the wrong way round",
            where=f"{where}.ratio_limits",
            expected="the lower first",
            found=list(cfg.ratio_limits),
        )
    if cfg.exploration_episodes < 1 or config.iterations < 1:
        raise ConfigError(
            "nothing to learn from",
            where="meta_train",
            expected="at least one iteration, with at least one of learner.exploration_episodes",
        )
    if cfg.aggregate_every and cfg.outer != "imitation":
        raise ConfigError(
            "aggregation without imitation",
            where=f"{where}.aggregate_every",
            expected="outer: imitation, or aggregate_every: 0",
            found=f"outer: {cfg.outer}",
        )
    if env.image_shape is not None and cfg.baseline == "linear" and not config.networks.convolution:
        raise ConfigError(
            "a linear baseline of pictures",
            where=f"{where}.baseline",
            expected="time or none, where observations hold a picture, or networks.convolution",
            found=cfg.baseline,
        )


def training_tasks(stage: StageRun, tasks: TaskList) -> tuple[TrainingTasks, dict[str, Path]]:
    """Gather tasks, demonstrations and expert, as far as the method needs them.

    Args:
        stage: The running stage.
        tasks: All tasks.

    Returns:
        What is trained on, and the files that were read, by name.
    """
    args, env, config = stage.args, stage.env, stage.section
    train, parameters = tasks.train, tasks.parameters[list(tasks.train)]
    inputs = {"tasks": args.tasks}
    if config.learner.outer != "imitation":
        return TrainingTasks(train, parameters), inputs
    inputs["transitions"] = args.transitions
    shown = read_demonstrations(args.transitions, env, args.tasks, train, config.demonstrations)
    if not config.learner.aggregate_every:
        return TrainingTasks(train, parameters, shown), inputs
    inputs["expert"] = expert_path(args.transitions)
    expert = read_expert(inputs["expert"], env, args.tasks, tasks.parameters, train)
    told = np.zeros((1, env.privileged_dim), np.float32) if expert.privileged else shown[0].obs[:1]
    expert.label(train[0], told)  # one that cannot be asked refuses before training

    def label(place: int, obs: np.ndarray) -> np.ndarray:
        return expert.label(train[place], obs)

    return TrainingTasks(train, parameters, shown, label, expert.privileged), inputs


def measure(trainer: GmpsTrainer, tasks: TaskList, config: GmpsTrainConfig) -> dict[str, float]:
    """Take a point of the learning curve on held-out tasks; nothing is chosen by it.

    Args:
        trainer: As it stands.
        tasks: All tasks.
        config: How often a task is repeated.

    Returns:
        Mean returns after adaptation and without.
    """
    ids = list(tasks.test)
    agent = PolicyGradientAgent(trainer.learner.meta, trainer.learner.objective)
    test = MetaTest(
        trainer.driver,
        agent,
        AdaptationConfig(
            repeats=config.evaluate_repeats,
            episodes=config.evaluate_explored + 1,
            exploration_episodes=config.evaluate_explored,
        ),
        ids,
        tasks.parameters[ids],
        (trainer.seed, EVALUATE_TEST),
    )
    adapted = test.online()[0].episode_return[..., -1]
    return {
        "test_return": float(adapted.mean(dtype=np.float64)),
        "test_prior_return": float(test.unadapted(1).episode_return.mean(dtype=np.float64)),
    }


def metadata(stage: StageRun, trainer: GmpsTrainer, inputs: dict[str, Path]) -> dict[str, object]:
    """Say what the checkpoint is.

    Args:
        stage: The running stage.
        trainer: As trained.
        inputs: What was read.

    Returns:
        JSON metadata.
    """
    config = stage.section
    return {
        **offline_origin(stage, "gmps"),
        "environment_steps": trainer.environment_steps,
        "networks": asdict(config.networks),
        "learner": asdict(config.learner),
        "lineage": [{"stage": "meta_train", **{n: path_digest(p) for n, p in inputs.items()}}],
    }


def train_seed(stage: StageRun) -> Resume:
    """Train one seed, going on where a killed run stopped, and write its outputs.

    Args:
        stage: The running stage.

    Returns:
        The seed's resume state, to be cleared when the whole job is done.
    """
    args, config = stage.args, stage.section
    cfg = config.learner
    single_thread(cfg.matmul_precision)
    tasks = read_tasks(args.tasks, stage.env)
    on, inputs = training_tasks(stage, tasks)
    resume = resume_state(args.out, stage.key(inputs))
    device = resolve_device(cfg.device)
    trainer = GmpsTrainer(stage.env, config.networks, cfg, on, args.seed, device)
    if (saved := resume.load()) is not None:
        trainer.load_state(saved)
    total = (config.iterations - trainer.iteration) * cfg.updates_per_batch
    with Progress("meta-gradient updates", total) as progress:
        while trainer.iteration < config.iterations:
            row = trainer.iterate(progress.advance)
            every = config.evaluate_every
            if every and (trainer.iteration % every == 0 or trainer.iteration == config.iterations):
                row |= measure(trainer, tasks, config)
            resume.rows.append(row)
            if resume.due():
                resume.save(trainer.state())
    resume.save(trainer.state())
    steps = {"environment_steps": trainer.environment_steps}
    extra = {"device": str(device), "updates": trainer.learner.num_updates} | steps
    about = metadata(stage, trainer, inputs)
    write_outputs(stage, trainer.learner.state(), about, resume.rows, inputs, extra)
    return resume


def run(args: argparse.Namespace) -> None:
    """Write each seed's checkpoint.

    Args:
        args: Parsed arguments.
    """
    with begin_seeds("meta_train", args, "pipeline.gmps_train") as runs:
        check_config(runs[0].section, runs[0].env)
        forget([train_seed(stage) for stage in one_by_one(runs)])


if __name__ == "__main__":
    stage_main(run, make_parser())
