"""Stage ``finetune``: train on, with the offline data and every labelled rollout so far.

Encoder and decoder are frozen (unless the method trains with true rewards); the actor follows
AWAC plus λ_pearl times the PEARL actor loss.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict

from pipeline.checkpoint import write_checkpoint
from pipeline.cli import stage_main, stage_parser
from pipeline.data import phase_dataset, read_labelled, read_offline
from pipeline.manifest import path_digest
from pipeline.models import read_model
from pipeline.sections import FinetuneConfig
from pipeline.stage import begin, lock
from pipeline.task_list import read_tasks
from pipeline.training import resume_state, single_thread, train, write_metrics
from smac_core.errors import CheckpointError
from smac_core.learner import Learner, resolve_device
from smac_core.networks import Shapes
from smac_core.sampler import HostSampler


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
    single_thread(config.learner.matmul_precision)
    device = resolve_device(config.learner.device)
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
    shapes = Shapes(stage.env.obs_dim, stage.env.action_dim)
    learner = Learner(shapes, model.networks, config.learner, args.seed, device)
    try:
        learner.load_state(model.checkpoint.tensors)
    except (KeyError, RuntimeError) as error:
        raise CheckpointError(
            "checkpoint without the learner's state",
            where=args.checkpoint,
            found=str(error).splitlines()[0],
            fix="pass a checkpoint of meta_train or finetune",
        ) from error
    sampler = HostSampler(
        data, config.learner, shapes, model.networks.latent_dim, args.seed, device
    )
    total = learner.num_updates + config.updates
    before = path_digest(args.checkpoint)
    key = {
        "section": asdict(config),
        "seed": args.seed,
        "code": stage.code_digest,
        "tasks": path_digest(args.tasks),
        "transitions": path_digest(args.transitions),
        "checkpoint": before,
        "rewards": [path_digest(path) for path in args.rewards],
    }
    with lock(args.out.parent):
        resume = resume_state(args.out, key)
        train(
            learner,
            lambda update: learner.update(sampler.draw(update)),
            total,
            config.learner.log_every,
            resume,
            f"round {args.round} updates",
        )
        metadata = {
            **model.metadata,
            "method": args.method,
            "round": args.round,
            "self_supervised_steps": sum(len(part) for part in rounds),
            "context_growth": config.context_growth,
            "learner": asdict(config.learner),
            "lineage": [*model.metadata["lineage"], {"stage": "finetune", "checkpoint": before}],
        }
        write_checkpoint(args.out, learner.state(), metadata)
        metrics = args.out.parent / "metrics.csv"
        write_metrics(metrics, resume.rows)
        inputs = {"tasks": args.tasks, "transitions": args.transitions}
        inputs["checkpoint"] = args.checkpoint
        for number, (rollout, reward) in enumerate(
            zip(args.rollouts, args.rewards, strict=True), start=1
        ):
            inputs |= {f"rollout{number}": rollout, f"rewards{number}": reward}
        stage.finish(
            inputs,
            {"checkpoint": args.out, "metrics": metrics},
            {"device": str(device), "updates": config.updates},
        )
        resume.clear()


if __name__ == "__main__":
    stage_main(run, make_parser())
