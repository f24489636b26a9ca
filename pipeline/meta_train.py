"""Stage ``meta_train``: the offline phase, which trains every network from offline data."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from pipeline.checkpoint import write_checkpoint
from pipeline.cli import stage_main, stage_parser
from pipeline.data import phase_dataset, read_offline
from pipeline.manifest import path_digest
from pipeline.models import checkpoint_metadata
from pipeline.sections import MetaTrainConfig
from pipeline.stage import begin, lock
from pipeline.task_list import read_tasks
from pipeline.training import resume_state, single_thread, train, write_metrics
from smac_core.learner import Learner, resolve_device
from smac_core.networks import Shapes, network_shapes
from smac_core.sampler import HostSampler


def make_parser() -> argparse.ArgumentParser:
    """Describe the arguments."""
    return stage_parser(
        "meta_train",
        "Meta-train offline on the collected transitions.",
        ("env", "method", "seed", "tasks", "transitions"),
    )


def run(args: argparse.Namespace) -> None:
    """Write the offline checkpoint.

    Args:
        args: Parsed arguments.

    Source: smac-reference section 5.1.
    """
    stage = begin("meta_train", args)
    config: MetaTrainConfig = stage.section
    single_thread(config.learner.matmul_precision)
    device = resolve_device(config.learner.device)
    tasks = read_tasks(args.tasks, stage.env)
    slices = (config.replay, config.context or config.replay)
    data = phase_dataset(
        read_offline(args.transitions, stage.env),
        [],
        tasks.train,
        slices,
        "frozen",
        context_next_obs=config.networks.context_next_obs,
    )
    shapes = Shapes(stage.env.obs_dim, stage.env.action_dim)
    learner = Learner(shapes, config.networks, config.learner, args.seed, device)
    sampler = HostSampler(
        data, config.learner, shapes, config.networks.latent_dim, args.seed, device
    )
    key = {
        "section": asdict(config),
        "seed": args.seed,
        "code": stage.code_digest,
        "tasks": path_digest(args.tasks),
        "transitions": path_digest(args.transitions),
    }
    with lock(args.out.parent):
        resume = resume_state(args.out, key)
        train(
            learner,
            lambda update: learner.update(sampler.draw(update)),
            config.updates,
            config.learner.log_every,
            resume,
            "offline updates",
        )
        sizes = {n: s.sizes for n, s in network_shapes(shapes, config.networks).items()}
        metadata = {
            **checkpoint_metadata(stage.env, config.networks, sizes),
            "method": args.method,
            "seed": args.seed,
            "round": 0,
            "self_supervised_steps": 0,
            "slices": [asdict(s) for s in slices],
            "posterior_variance": config.learner.posterior_variance,
            "context_growth": "all",
            "learner": asdict(config.learner),
            "lineage": [{"stage": "meta_train", "transitions": path_digest(args.transitions)}],
        }
        write_checkpoint(args.out, learner.state(), metadata)
        metrics = args.out.parent / "metrics.csv"
        write_metrics(metrics, resume.rows)
        stage.finish(
            {"tasks": args.tasks, "transitions": args.transitions},
            {"checkpoint": args.out, "metrics": metrics},
            {"device": str(device), "updates": config.updates},
        )
        resume.clear()


if __name__ == "__main__":
    stage_main(run, make_parser())
