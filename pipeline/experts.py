"""Stage ``experts``: one policy that is told its task, trained with true rewards for all of them.

It learns as the collector ``task-conditioned`` does, by soft actor-critic on what it collects; only
the policy is kept. Or it is the environment's own script, and nothing is learned; or a clone of the
script, which can be asked about a state alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from pipeline.checkpoint import write_checkpoint
from pipeline.cli import stage_main, stage_parser
from pipeline.collect_learning import LearningCollector, learn
from pipeline.collection import Collection
from pipeline.expert_cloning import clone
from pipeline.manifest import path_digest
from pipeline.models import checkpoint_metadata
from pipeline.sections import ExpertsConfig
from pipeline.stage import StageRun, begin, lock
from pipeline.task_list import read_tasks
from pipeline.training import Resume, write_metrics
from smac_core.errors import ConfigError
from smac_core.networks import Shapes, network_shapes


def make_parser() -> argparse.ArgumentParser:
    """Describe the arguments."""
    return stage_parser("experts", "Train the expert of all training tasks.", ("env", "tasks"))


@dataclass(frozen=True)
class Made:
    """An expert as it came about.

    Args:
        policy: What acts: ``task-conditioned``, ``scripted`` or ``cloned``.
        tensors: Of its checkpoint.
        rows: Of metrics.csv.
        steps: Environment steps that it took.
        counted: What the manifest says of its training.
        resume: State of the training, cleared once the outputs are written; None: there is none.
    """

    policy: str
    tensors: Mapping[str, np.ndarray]
    rows: Sequence[Mapping[str, float]]
    steps: int
    counted: Mapping[str, object]
    resume: Resume | None = None


def check_config(config: ExpertsConfig, env: str) -> None:
    """Refuse an expert that would show what an untrained network does.

    Args:
        config: The section.
        env: The environment.

    Raises:
        ConfigError: It has no update to learn by.
    """
    learns = config.iterations and config.updates_per_iteration
    if config.policy == "task-conditioned" and not learns:
        raise ConfigError(
            "an expert that learns nothing",
            where=f"experts of {env}",
            expected="at least one of iterations, and of updates_per_iteration",
            found=f"{config.iterations} and {config.updates_per_iteration}",
            fix="set experts.iterations, or experts.policy: scripted",
        )


def follow_script(collection: Collection) -> Made:
    """Make the environment's script the expert, or a clone of it.

    Args:
        collection: Environment, configuration and tasks.

    Returns:
        The expert.
    """
    config = collection.config
    assert isinstance(config, ExpertsConfig)
    if config.cloning is None:
        rows = [{"iteration": 0.0, "environment_steps": 0.0}]
        return Made("scripted", {"scripted": np.ones(1, dtype=np.int8)}, rows, 0, {})
    tensors, rows, steps = clone(collection)
    return Made("cloned", tensors, rows, steps, {"updates": config.cloning.updates})


def train(stage: StageRun, collection: Collection, tasks: str) -> Made:
    """Train the expert on what it collects.

    Args:
        stage: The running stage.
        collection: Environment, configuration and tasks.
        tasks: Digest of the task list.

    Returns:
        The expert.
    """
    collector = LearningCollector(collection)
    key = {"env": asdict(stage.env_config), "code": stage.code_digest, "tasks": tasks}
    resume = learn(collector, stage.args.out, key)
    kept = {"policy", "encoder", "decoder"}
    tensors = {name: array for name, array in collector.learner.state().items() if name in kept}
    steps = int(collection.episodes().length.sum())
    counted = {"updates": collector.learner.num_updates} | collection.statistics()
    return Made("task-conditioned", tensors, resume.rows, steps, counted, resume)


def metadata(collection: Collection, tasks: str, made: Made) -> dict[str, object]:
    """Say what the checkpoint is.

    Args:
        collection: Environment, configuration and tasks.
        tasks: Digest of the task list.
        made: The expert.

    Returns:
        JSON metadata.
    """
    env, networks = collection.env, collection.config.networks
    layers = network_shapes(Shapes(env.obs_dim, env.action_dim), networks)
    described = checkpoint_metadata(env, networks, {name: layers[name].sizes for name in layers})
    return described | {
        "algorithm": "expert",
        "policy": made.policy,
        "experts_of": list(collection.tasks.train),
        "tasks": tasks,
        "environment_steps": made.steps,
        "config": asdict(collection.config),
    }


def run(args: argparse.Namespace) -> None:
    """Write the expert.

    Args:
        args: Parsed arguments.

    Source: baselines.md section 4, "Experts".
    """
    stage = begin("experts", args)
    config: ExpertsConfig = stage.section
    check_config(config, stage.env.env_id)
    collection = Collection(stage.env, config, read_tasks(args.tasks, stage.env))
    tasks = path_digest(args.tasks)
    metrics: Path = args.out.parent / "metrics.csv"
    with lock(args.out.parent):
        scripted = config.policy == "scripted"
        made = follow_script(collection) if scripted else train(stage, collection, tasks)
        write_checkpoint(args.out, made.tensors, metadata(collection, tasks, made))
        write_metrics(metrics, made.rows)
        outputs = {"checkpoint": args.out, "metrics": metrics}
        stage.finish({"tasks": args.tasks}, outputs, made.counted)
        if made.resume is not None:
            made.resume.clear()


if __name__ == "__main__":
    stage_main(run, make_parser())
