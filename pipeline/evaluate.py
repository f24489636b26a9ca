"""Stage ``evaluate``: meta-test on held-out tasks, every arm in one run, every episode kept."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

import numpy as np

from pipeline.cli import stage_main, stage_parser
from pipeline.data import offline_rows, read_offline
from pipeline.models import TrainedModel, read_model
from pipeline.sections import EvaluateConfig
from pipeline.stage import StageRun, for_each_seed
from pipeline.store import write_store
from pipeline.task_list import TaskList, read_tasks
from smac_core.adaptation import (
    MATCHED_EPISODE,
    NOTHING_EPISODE,
    OFFLINE_EPISODE,
    PRIOR_EPISODE,
    RANDOM_EPISODE,
    Arm,
    MetaTest,
    act_at_random,
    do_nothing,
)
from smac_core.dataset import Transitions, context_features
from smac_core.envs.episodes import BatchDriver
from smac_core.planning import EVALUATE_MATCHED, EVALUATE_OFFLINE, EVALUATE_TEST, EVALUATE_TRAIN

MANY_SEEDS = True  # one job may serve several seeds


def make_parser() -> argparse.ArgumentParser:
    """Describe the arguments."""
    return stage_parser(
        "evaluate",
        "Meta-test a checkpoint on held-out tasks, under every kind of context.",
        ("env", "method", "seed", "round", "tasks", "transitions", "checkpoint"),
        many_seeds=MANY_SEEDS,
    )


def _test_arms(test: MetaTest, *, floors: bool) -> dict[str, Arm]:
    """Measure the held-out tasks: adaptation, no adaptation, and what doing nothing gives."""
    adapted = test.adapt()
    arms = {
        "test_online": adapted.by_episodes,
        "test_online_transitions": adapted.by_transitions,
        "test_prior": test.given(None, PRIOR_EPISODE),
    }
    if floors:
        arms["test_nothing"] = test.floor(do_nothing, NOTHING_EPISODE)
        arms["test_random"] = test.floor(act_at_random, RANDOM_EPISODE)
    return arms


def _train_arms(test: MetaTest, offline: list[np.ndarray]) -> dict[str, Arm]:
    """Measure training tasks, where offline contexts exist: the shift of the paper's Figure 2.

    ``train_matched`` and ``train_offline`` differ in where the context comes from, and in nothing
    else: same size, same sampling, same way to draw z.
    """
    adapted = test.adapt()
    repeated = [bag for bag in offline for _ in range(test.config.repeats)]
    matched = test.resample(adapted.explored, EVALUATE_MATCHED)
    given = test.resample(repeated, EVALUATE_OFFLINE)
    return {
        "train_online": adapted.by_episodes,
        "train_online_transitions": adapted.by_transitions,
        "train_matched": test.given(matched, MATCHED_EPISODE),
        "train_offline": test.given(given, OFFLINE_EPISODE),
    }


def _offline_features(
    offline: Transitions, model: TrainedModel, task_ids: list[int]
) -> list[np.ndarray]:
    bags = []
    for rows in offline_rows(offline, task_ids, model.slices[1]):
        after = offline.next_obs[rows] if model.agent.context_next_obs else None
        bags.append(
            context_features(offline.obs[rows], offline.action[rows], offline.reward[rows], after)
        )
    return bags


def _offline_decoder_mse(
    offline: Transitions, model: TrainedModel, task_ids: list[int], latents: np.ndarray
) -> float:
    """Squared error of the decoder on the offline replay rows of some tasks."""
    per_task = offline_rows(offline, task_ids, model.slices[0])
    rows = np.concatenate(per_task)
    which = np.repeat(np.arange(len(per_task)), [len(r) for r in per_task])
    predicted = model.agent.decode(offline.obs[rows], offline.action[rows], latents, which)
    return float(np.mean((predicted.astype(np.float64) - offline.reward[rows]) ** 2))


def measure(stage: StageRun, tasks: TaskList, model: TrainedModel) -> tuple[dict[str, Arm], float]:
    """Run every arm.

    Args:
        stage: The running stage.
        tasks: All tasks.
        model: The checkpoint.

    Returns:
        Arms by name, and the decoder's squared error on offline data.
    """
    args, config = stage.args, stage.section
    train_ids = list(tasks.train[: config.train_tasks])
    offline = read_offline(args.transitions, stage.env, train_ids, model.slices)
    driver = BatchDriver(stage.env)

    def meta_test(ids: list[int], purpose: int) -> MetaTest:
        return MetaTest(
            driver,
            model.agent,
            config.adaptation,
            ids,
            tasks.parameters[ids],
            (args.seed, purpose),
        )

    arms = _test_arms(meta_test(list(tasks.test), EVALUATE_TEST), floors=args.round == 0)
    arms |= _train_arms(
        meta_test(train_ids, EVALUATE_TRAIN), _offline_features(offline, model, train_ids)
    )
    latents = np.ascontiguousarray(arms["train_offline"].posterior_mean[:, 0])
    return arms, _offline_decoder_mse(offline, model, train_ids, latents)


def final_return(arm: Arm) -> float:
    """Average the return of the last episode of every meta-episode.

    Args:
        arm: As measured.

    Returns:
        The mean over tasks and repeats, in units of reward.
    """
    last = (arm.episode_length > 0).sum(axis=2, keepdims=True) - 1
    return float(np.take_along_axis(arm.episode_return, last, axis=2).mean(dtype=np.float64))


def _arrays(arms: Mapping[str, Arm], *, save_paths: bool) -> dict[str, np.ndarray]:
    """Lay the arms out as the store has them; the first path of a single episode is its last."""
    arrays: dict[str, np.ndarray] = {}
    for name, arm in arms.items():
        single = arm.episode_return.shape[2] == 1
        left_out = {"first_path"} if single else set()
        left_out |= set() if save_paths else {"first_path", "final_path"}
        for field in sorted(set(Arm.__dataclass_fields__) - left_out):
            arrays[f"arms/{name}/{field}"] = getattr(arm, field)
    return arrays


def evaluate(stage: StageRun) -> None:
    """Measure a checkpoint and write what was measured.

    Args:
        stage: The running stage.

    Source: smac-reference section 6.
    """
    args = stage.args
    config: EvaluateConfig = stage.section
    tasks = read_tasks(args.tasks, stage.env)
    model = read_model(args.checkpoint, stage.env, current_round=args.round)
    arms, offline_mse = measure(stage, tasks, model)
    write_store(
        args.out,
        "evaluation",
        _arrays(arms, save_paths=config.save_paths),
        {
            "env_id": stage.env.env_id,
            "method": args.method,
            "seed": args.seed,
            "round": args.round,
            "self_supervised_steps": int(model.metadata["self_supervised_steps"]),
            "arms": sorted(arms),
            "count": config.adaptation.count,
            "measures": list(stage.env.measure_units),
            "measure_units": list(stage.env.measure_units.values()),
        },
    )
    inputs = {
        "tasks": args.tasks,
        "transitions": args.transitions,
        "checkpoint": args.checkpoint,
    }
    headline = "test_online" if config.adaptation.count == "episodes" else "test_online_transitions"
    extra = {
        "offline_decoder_mse": offline_mse,
        "test_return": final_return(arms[headline]),
    }
    stage.finish(inputs, {"returns": args.out}, extra)


def run(args: argparse.Namespace) -> None:
    """Write the returns of each seed's checkpoint.

    Args:
        args: Parsed arguments.
    """
    for_each_seed("evaluate", args, evaluate)


if __name__ == "__main__":
    stage_main(run, make_parser())
