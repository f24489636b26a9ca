"""Stage ``experts``: one policy that is told its task, trained with true rewards for all of them.

It learns as the collector ``task-conditioned`` does, by soft actor-critic on what it collects; only
the policy is kept. Or it is the environment's own script, and nothing is learned; or a clone of the
script, which can be asked about a state alone.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
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
from pipeline.stage import begin, lock
from pipeline.task_list import read_tasks
from pipeline.training import write_metrics
from smac_core.networks import Shapes, network_shapes


def make_parser() -> argparse.ArgumentParser:
    """Describe the arguments."""
    return stage_parser("experts", "Train the expert of all training tasks.", ("env", "tasks"))


def metadata(collection: Collection, tasks: str, steps: int) -> dict[str, object]:
    """Say what the checkpoint is.

    Args:
        collection: Environment, configuration and tasks.
        tasks: Digest of the task list.
        steps: With true reward that it was trained on.

    Returns:
        JSON metadata.
    """
    env, networks = collection.env, collection.config.networks
    layers = network_shapes(Shapes(env.obs_dim, env.action_dim), networks)
    described = checkpoint_metadata(env, networks, {name: layers[name].sizes for name in layers})
    return described | {
        "algorithm": "expert",
        "policy": collection.config.policy,
        "experts_of": list(collection.tasks.train),
        "tasks": tasks,
        "environment_steps": steps,
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
    collection = Collection(stage.env, config, read_tasks(args.tasks, stage.env))
    tasks = path_digest(args.tasks)
    metrics: Path = args.out.parent / "metrics.csv"
    outputs = {"checkpoint": args.out, "metrics": metrics}
    with lock(args.out.parent):
        if config.policy == "scripted" and config.cloning is None:
            scripted = {"scripted": np.ones(1, dtype=np.int8)}
            write_checkpoint(args.out, scripted, metadata(collection, tasks, 0))
            write_metrics(metrics, [{"iteration": 0.0, "environment_steps": 0.0}])
            stage.finish({"tasks": args.tasks}, outputs)
            return
        if config.policy == "scripted":
            cloned, rows, steps = clone(collection)
            described = metadata(collection, tasks, steps) | {"policy": "cloned"}
            write_checkpoint(args.out, cloned, described)
            write_metrics(metrics, rows)
            assert config.cloning is not None
            stage.finish({"tasks": args.tasks}, outputs, {"updates": config.cloning.updates})
            return
        collector = LearningCollector(collection)
        key = {"env": asdict(stage.env_config), "code": stage.code_digest, "tasks": tasks}
        resume = learn(collector, args.out, key)
        tensors = {
            name: array
            for name, array in collector.learner.state().items()
            if name in {"policy", "encoder", "decoder"}
        }
        steps = int(collection.episodes().length.sum())
        write_checkpoint(args.out, tensors, metadata(collection, tasks, steps))
        write_metrics(metrics, resume.rows)
        counted = {"updates": collector.learner.num_updates}
        stage.finish({"tasks": args.tasks}, outputs, counted | collection.statistics())
        resume.clear()


if __name__ == "__main__":
    stage_main(run, make_parser())
