"""Stage ``meta_train`` of `oracle-scratch`: PEARL's initial weights, and no update."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from pipeline.cli import stage_main, stage_parser
from pipeline.models import checkpoint_metadata
from pipeline.sections_pearl import PearlStartConfig
from pipeline.stage import StageRun, for_each_seed
from pipeline.training import single_thread, write_outputs
from smac_core.learner import resolve_device
from smac_core.networks import Shapes, network_shapes
from smac_core.pearl import PearlLearner

MANY_SEEDS = True  # one job may serve several seeds


def make_parser() -> argparse.ArgumentParser:
    """Describe the arguments."""
    return stage_parser(
        "pearl_start",
        "Write PEARL's initial weights; the offline transitions are not looked at.",
        ("env", "method", "seed", "tasks", "transitions"),
        many_seeds=MANY_SEEDS,
    )


def start(stage: StageRun) -> None:
    """Write the checkpoint of one seed.

    Args:
        stage: The running stage.
    """
    args, env = stage.args, stage.env
    config: PearlStartConfig = stage.section
    single_thread(config.learner.matmul_precision)
    device = resolve_device(config.learner.device)
    shapes = Shapes(env.obs_dim, env.action_dim)
    learner = PearlLearner(shapes, config.networks, config.learner, args.seed, device)
    sizes = {n: s.sizes for n, s in network_shapes(shapes, config.networks).items()}
    slices = (config.replay, config.context or config.replay)
    metadata = {
        **checkpoint_metadata(env, config.networks, sizes),
        "method": args.method,
        "seed": args.seed,
        "round": 0,
        "self_supervised_steps": 0,
        "slices": [asdict(s) for s in slices],
        "posterior_variance": "variance",
        "learner": asdict(config.learner),
        "lineage": [{"stage": "meta_train"}],
    }
    extra = {"device": str(device), "updates": 0}
    write_outputs(stage, learner.state(), metadata, [{"update": 0}], {"tasks": args.tasks}, extra)


def run(args: argparse.Namespace) -> None:
    """Write each seed's initial checkpoint.

    Args:
        args: Parsed arguments.
    """
    for_each_seed("meta_train", args, start, module="pipeline.pearl_start")


if __name__ == "__main__":
    stage_main(run, make_parser())
