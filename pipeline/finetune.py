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
from pipeline.phase import SeedPhase, prepare, train_phase
from pipeline.sections import FinetuneConfig
from pipeline.stage import begin
from pipeline.task_list import read_tasks
from smac_core.networks import Shapes


def make_parser() -> argparse.ArgumentParser:
    """Describe the arguments."""
    return stage_parser(
        "finetune",
        "Train on with labelled rollouts.",
        (
            *("env", "method", "seed", "round", "tasks", "transitions", "rollouts", "rewards"),
            "checkpoint",
        ),
    )


def run(args: argparse.Namespace) -> None:
    """Write this round's checkpoint.

    Args:
        args: Parsed arguments.

    Source: smac-reference sections 2.4 and 5.2, point 2.
    """
    stage = begin("finetune", args)
    config: FinetuneConfig = stage.section
    device = prepare(config.learner)
    tasks = read_tasks(args.tasks, stage.env)
    model = read_model(args.checkpoint, stage.env, current_round=args.round - 1)
    rounds = read_labelled(args.rollouts, args.rewards, stage.env, args.round)
    data = phase_dataset(
        read_offline(args.transitions, stage.env),
        rounds,
        tasks.train,
        model.slices,
        config.context_growth,
        context_next_obs=model.agent.context_next_obs,
    )
    networks, shapes = model.networks, Shapes(stage.env.obs_dim, stage.env.action_dim)
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
    phase = SeedPhase(stage, data, inputs, metadata, model.checkpoint.tensors)
    train_phase([phase], shapes, networks, device, f"round {args.round} updates")


if __name__ == "__main__":
    stage_main(run, make_parser())
