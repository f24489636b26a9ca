"""Stage ``evaluate``: meta-test on held-out tasks, every arm in one run, every episode kept."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace

import numpy as np

from pipeline.cli import stage_main, stage_parser
from pipeline.contexts import offline_contexts
from pipeline.data import offline_rows, read_offline_episodes
from pipeline.models import ActingModel, read_acting
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
    MetaTest,
    act_at_random,
    do_nothing,
)
from smac_core.arms import Arm
from smac_core.config import SliceConfig
from smac_core.coverage import coverage
from smac_core.dataset import Transitions
from smac_core.envs.definition import Environment
from smac_core.envs.episodes import BatchDriver
from smac_core.meta_agent import Context, join_contexts
from smac_core.planning import EVALUATE_MATCHED, EVALUATE_OFFLINE, EVALUATE_TEST, EVALUATE_TRAIN

_JUDGED = {"start_value", "discounted_return"}  # nan where no critic judges
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
        "test_prior": test.unadapted(PRIOR_EPISODE),
    }
    if floors:
        arms["test_nothing"] = test.floor(do_nothing, NOTHING_EPISODE)
        arms["test_random"] = test.floor(act_at_random, RANDOM_EPISODE)
    return arms


def _curve_arms(test: MetaTest, numbers: Sequence[int]) -> dict[str, Arm]:
    """Measure the held-out tasks after other numbers of exploration episodes."""
    arms = {}
    for number in numbers:
        config = replace(test.config, episodes=number + 1, exploration_episodes=number)
        arms[f"test_explored_{number}"] = replace(test, config=config).online()[0]
    return arms


def _train_arms(test: MetaTest, offline: list[Context]) -> tuple[dict[str, Arm], list[Context]]:
    """Measure training tasks, where offline contexts exist: the shift of the paper's Figure 2.

    ``train_matched`` and ``train_offline`` differ in where the context comes from, and in nothing
    else: same size, same sampling, same way to act. Comes with what was explored; the agent is left
    as it adapted to the offline contexts.
    """
    adapted = test.adapt()
    repeated = [bag for bag in offline for _ in range(test.config.repeats)]
    matched = test.resample(adapted.explored, EVALUATE_MATCHED)
    given = test.resample(repeated, EVALUATE_OFFLINE)
    arms = {
        "train_online": adapted.by_episodes,
        "train_online_transitions": adapted.by_transitions,
        "train_matched": test.given(matched, MATCHED_EPISODE),
        "train_offline": test.given(given, OFFLINE_EPISODE),
    }
    return arms, adapted.explored


def _offline_decoder_mse(
    test: MetaTest, offline: Transitions, task_ids: list[int], replay: SliceConfig
) -> float | None:
    """Squared error of the decoder, as the agent stands, on the offline replay rows of tasks."""
    per_task = offline_rows(offline, task_ids, replay)
    rows = np.concatenate(per_task)
    first = np.arange(len(per_task)) * test.config.repeats
    of = np.repeat(first, [len(r) for r in per_task])
    predicted = test.agent.predict_rewards(of, offline.obs[rows], offline.action[rows])
    if predicted is None:
        return None
    return float(np.mean((predicted.astype(np.float64) - offline.reward[rows]) ** 2))


def _exploration_decoder_mse(test: MetaTest, explored: list[Context]) -> float | None:
    """Squared error of the decoder, as the agent stands, on what it explored itself."""
    of = np.repeat(np.arange(len(explored)), [len(bag) for bag in explored])
    every = join_contexts(explored)
    predicted = test.agent.predict_rewards(of, every.obs, every.action)
    if predicted is None:
        return None
    return float(np.mean((predicted.astype(np.float64) - every.reward) ** 2))


def measure(
    stage: StageRun, tasks: TaskList, model: ActingModel
) -> tuple[dict[str, Arm], dict[str, float | None]]:
    """Run every arm.

    Args:
        stage: The running stage.
        tasks: All tasks.
        model: The checkpoint.

    Returns:
        Arms by name, and the numbers of docs/metrics.md that the checkpoint has as a whole.
    """
    args, config = stage.args, stage.section
    train_ids = list(tasks.train[: config.train_tasks])
    offline = read_offline_episodes(args.transitions, stage.env, train_ids, model.slices)
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

    held_out = meta_test(list(tasks.test), EVALUATE_TEST)
    arms = _test_arms(held_out, floors=args.round == 0)
    arms |= _curve_arms(held_out, config.exploration_curve)
    contexts = offline_contexts(
        offline, train_ids, model.slices[1], whole_episodes=model.agent.needs_order
    )
    train = meta_test(train_ids, EVALUATE_TRAIN)
    trained, explored = _train_arms(train, contexts)
    replay = np.concatenate(offline_rows(offline.rows, train_ids, model.slices[0]))
    seen = np.concatenate([bag.obs for bag in explored])
    numbers: dict[str, float | None] = {
        "offline_decoder_mse": _offline_decoder_mse(
            train, offline.rows, train_ids, model.slices[0]
        ),
        "exploration_decoder_mse": _exploration_decoder_mse(train, explored),
        **_coverage(stage.env, offline.rows.obs[replay], seen),
    }
    return arms | trained, numbers


def _coverage(env: Environment, offline: np.ndarray, seen: np.ndarray) -> dict[str, float]:
    """Tell where the exploration went; of images nothing, whose covariance no memory holds."""
    return {} if env.image_shape is not None else asdict(coverage(offline, seen))


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
        left_out |= set() if np.isfinite(arm.start_value).any() else _JUDGED
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
    model = read_acting(args.checkpoint, stage.env, config.agent, current_round=args.round)
    arms, numbers = measure(stage, tasks, model)
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
    extra = {**numbers, "test_return": final_return(arms[headline])}
    stage.finish(inputs, {"returns": args.out}, extra)


def run(args: argparse.Namespace) -> None:
    """Write the returns of each seed's checkpoint.

    Args:
        args: Parsed arguments.
    """
    for_each_seed("evaluate", args, evaluate)


if __name__ == "__main__":
    stage_main(run, make_parser())
