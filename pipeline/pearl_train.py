"""Stage ``finetune`` of `oracle-scratch`: PEARL's updates on every visit so far, with true rewards.

The offline transitions are not looked at: what this method knows, it saw online.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from pipeline.cli import stage_main, stage_parser
from pipeline.data import read_labelled
from pipeline.manifest import path_digest
from pipeline.models import TrainedModel, read_model
from pipeline.schema import EPISODE_SOURCES
from pipeline.sections_pearl import PearlRoundConfig
from pipeline.stage import StageRun, for_each_seed
from pipeline.training import resume_state, single_thread, train, write_outputs
from smac_core.config import SliceConfig
from smac_core.dataset import Dataset, Transitions, build_dataset, join, slice_rows
from smac_core.engine import make_engine
from smac_core.errors import CheckpointError
from smac_core.learner import resolve_device
from smac_core.networks import Shapes
from smac_core.pearl import PearlLearner

MANY_SEEDS = True  # one job may serve several seeds


def make_parser() -> argparse.ArgumentParser:
    """Describe the arguments."""
    return stage_parser(
        "pearl_train",
        "Train PEARL on with visits that recorded the environment's rewards.",
        (
            *("env", "method", "seed", "round", "tasks", "transitions", "rollouts", "rewards"),
            "checkpoint",
        ),
        many_seeds=MANY_SEEDS,
    )


class _OneSeed:
    """PEARL's learner as the loop of updates sees it."""

    def __init__(self, learner: PearlLearner) -> None:
        self.learner = learner

    @property
    def num_updates(self) -> int:
        return self.learner.num_updates

    @num_updates.setter
    def num_updates(self, number: int) -> None:
        self.learner.num_updates = number

    def read_metrics(self) -> list[dict[str, float]]:
        return [self.learner.read_metrics()]

    def state(self, seed: int = 0) -> dict[str, np.ndarray]:
        return self.learner.state()

    def load_state(self, state: Mapping[str, np.ndarray], seed: int = 0) -> None:
        self.learner.load_state(state)


def online_dataset(rounds: Sequence[Transitions], *, context_next_obs: bool) -> Dataset:
    """Assemble what PEARL draws from.

    Args:
        rounds: Rows of rounds 1..r with true rewards.
        context_next_obs: Whether the encoder sees s'.

    Returns:
        Per visited task every row as replay, and as context the prior episodes of the last round
        that visited it: PEARL clears the encoder's buffer at every visit.

    Source: smac-reference section 4, points 2 and 3.
    """
    tasks = sorted({int(task) for part in rounds for task in np.unique(part.task_id)})
    replay = {task: [np.zeros(0, dtype=np.int64)] for task in tasks}
    context = {}
    base = 0
    for part in rounds:
        for task in np.unique(part.task_id).tolist():
            replay[task].append(base + slice_rows(part, task, SliceConfig(), ()))
            prior = [EPISODE_SOURCES["prior"]]
            context[task] = base + slice_rows(part, task, SliceConfig(), prior)
        base += len(part)
    return build_dataset(
        join(rounds),
        tasks,
        [np.concatenate(replay[task]) for task in tasks],
        [context[task] for task in tasks],
        context_next_obs=context_next_obs,
    )


def _inputs(args: argparse.Namespace) -> dict[str, Path]:
    inputs = {"tasks": args.tasks, "checkpoint": args.checkpoint}
    for number, pair in enumerate(zip(args.rollouts, args.rewards, strict=True), start=1):
        inputs |= {f"rollout{number}": pair[0], f"rewards{number}": pair[1]}
    return inputs


def _metadata(stage: StageRun, model: TrainedModel, steps: int) -> dict[str, object]:
    args = stage.args
    link = {"stage": "finetune", "checkpoint": path_digest(args.checkpoint)}
    return {
        **model.metadata,
        "method": args.method,
        "round": args.round,
        "self_supervised_steps": steps,
        "learner": asdict(stage.section.learner),
        "lineage": [*model.metadata["lineage"], link],
    }


def train_round(stage: StageRun) -> None:
    """Take one round's updates of one seed.

    Args:
        stage: The running stage.

    Raises:
        CheckpointError: The checkpoint is another method's.

    Source: smac-reference section 4, point 4.
    """
    args, env = stage.args, stage.env
    config: PearlRoundConfig = stage.section
    single_thread(config.learner.matmul_precision)
    device = resolve_device(config.learner.device)
    model = read_model(args.checkpoint, env, current_round=args.round - 1)
    rounds = read_labelled(args.rollouts, args.rewards, env, args.round)
    data = online_dataset(rounds, context_next_obs=model.agent.context_next_obs)
    shapes = Shapes(env.obs_dim, env.action_dim)
    learner = PearlLearner(shapes, model.networks, config.learner, args.seed, device)
    try:
        learner.load_state(model.checkpoint.tensors)
    except (KeyError, ValueError) as error:
        raise CheckpointError(
            "checkpoint without PEARL's state",
            where=args.checkpoint,
            found=str(error).splitlines()[0],
            fix="pass one that pipeline.pearl_start or pipeline.pearl_train made",
        ) from error
    inputs = _inputs(args)
    resume = resume_state(args.out, stage.key(inputs))
    every = config.learner.log_every
    latent_dim = model.networks.latent_dim
    engine = make_engine(learner, [data], config.learner, latent_dim, [args.seed], every)
    total = learner.num_updates + config.updates
    train(_OneSeed(learner), engine, total, every, [resume], f"round {args.round} updates")
    about = _metadata(stage, model, sum(map(len, rounds)))
    extra = {"device": str(device), "updates": config.updates}
    write_outputs(stage, learner.state(), about, resume.rows, inputs, extra)
    resume.clear()


def run(args: argparse.Namespace) -> None:
    """Write each seed's checkpoint of this round.

    Args:
        args: Parsed arguments.
    """
    for_each_seed("finetune", args, train_round, module="pipeline.pearl_train")


if __name__ == "__main__":
    stage_main(run, make_parser())
