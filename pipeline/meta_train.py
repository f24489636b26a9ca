"""Stage ``meta_train``: the offline phase, which trains every network from offline data."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from functools import partial

from pipeline.cli import stage_main, stage_parser
from pipeline.data import phase_dataset, read_offline
from pipeline.manifest import path_digest
from pipeline.models import checkpoint_metadata
from pipeline.phase import SeedPhase, train_seeds
from pipeline.sections import MetaTrainConfig
from pipeline.stage import StageRun
from pipeline.task_list import read_tasks
from smac_core.dataset import Dataset
from smac_core.networks import Shapes, network_shapes

MANY_SEEDS = True  # one job may serve several seeds


def make_parser() -> argparse.ArgumentParser:
    """Describe the arguments."""
    return stage_parser(
        "meta_train",
        "Meta-train offline on the collected transitions.",
        ("env", "method", "seed", "tasks", "transitions"),
        many_seeds=MANY_SEEDS,
    )


def read_phase(stage: StageRun, shared: list[Dataset]) -> SeedPhase:
    """Read what one seed starts from.

    Args:
        stage: The running stage.
        shared: Holds the data once they were read: every seed sees the same.

    Returns:
        The data, and what the checkpoint will say of itself.
    """
    args = stage.args
    config: MetaTrainConfig = stage.section
    networks = config.networks
    slices = (config.replay, config.context or config.replay)
    if not shared:
        train = read_tasks(args.tasks, stage.env).train
        shared.append(
            phase_dataset(
                read_offline(args.transitions, stage.env, train, slices),
                [],
                train,
                slices,
                "frozen",
                context_next_obs=networks.context_next_obs,
            )
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
    return SeedPhase(stage, networks, shared[0], inputs, metadata)


def run(args: argparse.Namespace) -> None:
    """Write each seed's offline checkpoint.

    Args:
        args: Parsed arguments.

    Source: smac-reference section 5.1.
    """
    read = partial(read_phase, shared=[])
    train_seeds("meta_train", args, read, "offline updates")


if __name__ == "__main__":
    stage_main(run, make_parser())
