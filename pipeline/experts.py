"""Stage ``experts``: one policy that is told its task, trained with true rewards for all of them.

It learns as the collector ``task-conditioned`` does, by soft actor-critic on what it collects; only
the policy is kept.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from pipeline.checkpoint import write_checkpoint
from pipeline.cli import stage_main, stage_parser
from pipeline.collect_learning import LearningCollector, learn
from pipeline.collection import Collection
from pipeline.manifest import path_digest
from pipeline.models import checkpoint_metadata
from pipeline.sections import ExpertsConfig
from pipeline.stage import begin, lock
from pipeline.task_list import read_tasks
from pipeline.training import write_metrics
from smac_core.networks import network_shapes


def make_parser() -> argparse.ArgumentParser:
    """Describe the arguments."""
    return stage_parser("experts", "Train the expert of all training tasks.", ("env", "tasks"))


def metadata(collector: LearningCollector, tasks: str) -> dict[str, object]:
    """Say what the checkpoint is.

    Args:
        collector: As trained.
        tasks: Digest of the task list.

    Returns:
        JSON metadata.
    """
    networks = collector.config.networks
    layers = network_shapes(collector.shapes, networks)
    collection = collector.collection
    described = checkpoint_metadata(
        collector.env, networks, {name: layers[name].sizes for name in layers}
    )
    return described | {
        "algorithm": "expert",
        "experts_of": list(collection.tasks.train),
        "tasks": tasks,
        "environment_steps": int(collection.episodes().length.sum()),
        "config": asdict(collector.config),
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
    with lock(args.out.parent):
        tasks = path_digest(args.tasks)
        collector = LearningCollector(collection)
        resume = learn(collector, args.out, {"code": stage.code_digest, "tasks": tasks})
        tensors = {
            name: array
            for name, array in collector.learner.state().items()
            if name in {"policy", "encoder", "decoder"}
        }
        metrics: Path = args.out.parent / "metrics.csv"
        write_checkpoint(args.out, tensors, metadata(collector, tasks))
        write_metrics(metrics, resume.rows)
        stage.finish(
            {"tasks": args.tasks},
            {"checkpoint": args.out, "metrics": metrics},
            collection.statistics(),
        )
        resume.clear()


if __name__ == "__main__":
    stage_main(run, make_parser())
