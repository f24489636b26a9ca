"""Stage ``meta_train``: the offline phase, which trains every network from offline data."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from pipeline.cli import stage_main, stage_parser
from pipeline.data import phase_dataset, read_offline
from pipeline.manifest import path_digest
from pipeline.models import checkpoint_metadata
from pipeline.phase import SeedPhase, prepare, train_phase
from pipeline.sections import MetaTrainConfig
from pipeline.stage import begin
from pipeline.task_list import read_tasks
from smac_core.networks import Shapes, network_shapes


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
    networks = config.networks
    device = prepare(config.learner)
    tasks = read_tasks(args.tasks, stage.env)
    slices = (config.replay, config.context or config.replay)
    data = phase_dataset(
        read_offline(args.transitions, stage.env),
        [],
        tasks.train,
        slices,
        "frozen",
        context_next_obs=networks.context_next_obs,
    )
    shapes = Shapes(stage.env.obs_dim, stage.env.action_dim)
    sizes = {n: s.sizes for n, s in network_shapes(shapes, networks).items()}
    metadata = {
        **checkpoint_metadata(stage.env, networks, sizes),
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
    inputs = {"tasks": args.tasks, "transitions": args.transitions}
    phase = SeedPhase(stage, data, inputs, metadata)
    train_phase([phase], shapes, networks, device, "offline updates")


if __name__ == "__main__":
    stage_main(run, make_parser())
