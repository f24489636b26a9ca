"""Stage ``finetune``: train on, with the offline data and every labelled rollout so far.

Encoder and decoder are frozen (unless the method trains with true rewards); the actor follows
AWAC plus λ_pearl times the PEARL actor loss.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict

from pipeline.cli import stage_main, stage_parser
from pipeline.data import phase_dataset, read_labelled, read_offline
from pipeline.manifest import path_digest
from pipeline.models import read_model
from pipeline.phase import SeedPhase, train_seeds
from pipeline.sections import FinetuneConfig
from pipeline.stage import StageRun
from pipeline.task_list import read_tasks

MANY_SEEDS = True  # one job may serve several seeds


def make_parser() -> argparse.ArgumentParser:
    """Describe the arguments."""
    return stage_parser(
        "finetune",
        "Train on with labelled rollouts.",
        (
            *("env", "method", "seed", "round", "tasks", "transitions", "rollouts", "rewards"),
            "checkpoint",
        ),
        many_seeds=MANY_SEEDS,
    )


def read_phase(stage: StageRun) -> SeedPhase:
    """Read what one seed starts from.

    Args:
        stage: The running stage.

    Returns:
        All data so far, the state of the round before, and what the checkpoint will say of itself.
    """
    args = stage.args
    config: FinetuneConfig = stage.section
    tasks = read_tasks(args.tasks, stage.env)
    model = read_model(args.checkpoint, stage.env, current_round=args.round - 1)
    rounds = read_labelled(args.rollouts, args.rewards, stage.env, args.round)
    data = phase_dataset(
        read_offline(args.transitions, stage.env, tasks.train, model.slices),
        rounds,
        tasks.train,
        model.slices,
        config.context_growth,
        context_next_obs=model.agent.context_next_obs,
    )
    inputs = {
        "tasks": args.tasks,
        "transitions": args.transitions,
        "checkpoint": args.checkpoint,
    }
    for number, pair in enumerate(zip(args.rollouts, args.rewards, strict=True), start=1):
        inputs |= {f"rollout{number}": pair[0], f"rewards{number}": pair[1]}
    before = path_digest(args.checkpoint)
    metadata = {
        **model.metadata,
        "method": args.method,
        "round": args.round,
        "self_supervised_steps": sum(len(part) for part in rounds),
        "context_growth": config.context_growth,
        "learner": asdict(config.learner),
        "lineage": [*model.metadata["lineage"], {"stage": "finetune", "checkpoint": before}],
    }
    return SeedPhase(stage, model.networks, data, inputs, metadata, model.checkpoint.tensors)


def run(args: argparse.Namespace) -> None:
    """Write each seed's checkpoint of this round.

    Args:
        args: Parsed arguments.

    Source: smac-reference sections 2.4 and 5.2, point 2.
    """
    train_seeds("finetune", args, read_phase, f"round {args.round} updates")


if __name__ == "__main__":
    stage_main(run, make_parser())
