"""Stage ``collect``: the offline dataset of an environment, by one of four collectors.

``untrained`` acts with a freshly initialised policy; ``scripted`` with the environment's own rule;
``pearl`` trains PEARL with true rewards and keeps everything it sees; ``task-conditioned`` does
the same with a policy that is told its task. All write the same store.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from pipeline.cli import stage_main, stage_parser
from pipeline.collection import Collection, collect_initial, untrained_agent
from pipeline.data import write_episodes
from pipeline.manifest import path_digest
from pipeline.sections import CollectConfig
from pipeline.stage import begin, lock
from pipeline.task_list import read_tasks
from pipeline.training import Resume, write_metrics


def make_parser() -> argparse.ArgumentParser:
    """Describe the arguments."""
    return stage_parser("collect", "Collect the offline dataset.", ("env", "tasks"))


def run(args: argparse.Namespace) -> None:
    """Write the offline dataset.

    Args:
        args: Parsed arguments.

    Source: smac-reference section 4.
    """
    stage = begin("collect", args)
    config: CollectConfig = stage.section
    collection = Collection(stage.env, config, read_tasks(args.tasks, stage.env))
    resume: Resume | None = None
    with lock(args.out.parent):
        if config.policy in {"pearl", "task-conditioned"}:
            from pipeline.collect_learning import (  # noqa: PLC0415 - torch only where it learns
                collect_with_learner,
            )

            key = {
                "env": asdict(stage.env_config),
                "code": stage.code_digest,
                "tasks": path_digest(args.tasks),
            }
            resume = collect_with_learner(collection, args.out, key)
        elif config.policy == "scripted":
            collect_initial(collection)
        else:
            collect_initial(collection, untrained_agent(collection))
        write_episodes(
            args.out,
            stage.env,
            collection.episodes(),
            collection.labels(),
            params=stage.env_config.params,
            rewards=True,
        )
        metrics: Path = args.out.parent / "metrics.csv"
        write_metrics(metrics, resume.rows if resume else [collection_row(collection)])
        stage.finish(
            {"tasks": args.tasks},
            {"transitions": args.out, "metrics": metrics},
            collection.statistics(),
        )
        if resume is not None:
            resume.clear()


def collection_row(collection: Collection) -> dict[str, float]:
    """Summarise a collection without learning as one row of metrics.

    Args:
        collection: What was collected.

    Returns:
        The row.
    """
    episodes = collection.episodes()
    return {
        "iteration": 0.0,
        "environment_steps": float(episodes.length.sum()),
        "update": 0.0,
        "collected_return": float(episodes.returns.mean()),
    }


if __name__ == "__main__":
    stage_main(run, make_parser())
