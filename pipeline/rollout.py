"""Stage ``rollout``: the agent explores training tasks (or held-out ones) without rewards.

The store that it writes has no reward array (unless the method is the oracle), so nothing
downstream can use a true reward.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.cli import stage_main, stage_parser
from pipeline.data import phase_dataset, read_labelled, read_offline, write_episodes
from pipeline.models import TrainedModel, read_model
from pipeline.sections import RolloutConfig
from pipeline.stage import StageRun, for_each_seed
from pipeline.task_list import TaskList, read_tasks
from smac_core.dataset import Dataset, context_features
from smac_core.envs.episodes import BatchDriver
from smac_core.episode_rows import flatten
from smac_core.planning import ROLLOUT, Key, flat_rows, generator, next_observations
from smac_core.visits import ContextOf, VisitedEpisodes, run_visits

MANY_SEEDS = True  # one job may serve several seeds


def make_parser() -> argparse.ArgumentParser:
    """Describe the arguments."""
    return stage_parser(
        "rollout",
        "Explore training tasks without rewards.",
        (
            *("env", "method", "seed", "round", "tasks", "transitions", "checkpoint"),
            *("rollouts", "rewards"),
        ),
        many_seeds=MANY_SEEDS,
    )


def _exploration_context(stage: StageRun, tasks: TaskList, model: TrainedModel) -> Dataset:
    """Load the encoder's buffer as it stands at the beginning of this round."""
    args, config = stage.args, stage.section
    earlier = args.round - 1 if config.context == "growing" else 0
    rounds = read_labelled(
        args.rollouts[:earlier] if earlier == 0 else args.rollouts,
        args.rewards[:earlier] if earlier == 0 else args.rewards,
        stage.env,
        earlier,
    )
    growth = str(model.metadata.get("context_growth", "all"))
    return phase_dataset(
        read_offline(args.transitions, stage.env, tasks.train, model.slices),
        rounds,
        tasks.train,
        model.slices,
        "all" if growth == "separate" else growth,  # the separation is one of training
        context_next_obs=model.agent.context_next_obs,
    )


@dataclass(frozen=True)
class Visits:
    """Which tasks a round visits.

    Args:
        task_ids: ``[V]`` tasks that the agent acts in.
        buffers: ``[V]`` tasks whose data the episodes join.
        lenders: ``[V]`` training tasks whose data stand in for a buffer that is still empty.
    """

    task_ids: np.ndarray
    buffers: np.ndarray
    lenders: np.ndarray


def draw_visits(config: RolloutConfig, tasks: TaskList, rng: np.random.Generator) -> Visits:
    """Draw the tasks of a round, with replacement.

    A held-out task has no offline data: without rewards, its episodes join those of a training task
    drawn at random, by whose data they are labelled, as section 5.2 has it.

    Args:
        config: Says whether training or held-out tasks are explored, and whether with rewards.
        tasks: All tasks.
        rng: The round's generator.

    Returns:
        The visits.
    """
    train = np.asarray(tasks.train, dtype=np.int64)
    if config.exploration_tasks == "train":
        chosen = train[rng.integers(0, len(train), config.tasks_per_round)]
        return Visits(chosen, chosen, chosen)
    test = np.asarray(tasks.test, dtype=np.int64)
    chosen = test[rng.integers(0, len(test), config.tasks_per_round)]
    lenders = train[rng.integers(0, len(train), config.tasks_per_round)]
    return Visits(chosen, chosen if config.record_rewards else lenders, lenders)


def _from_buffers(data: Dataset, visits: Visits, size: int) -> ContextOf:
    """Draw the contexts of a visit from the buffer that its episodes join."""
    slots = {task: slot for slot, task in enumerate(data.task_ids)}

    def context_of(visit: int, key: Key) -> np.ndarray:
        buffer = int(visits.buffers[visit])
        rows = data.context.of(slots.get(buffer, slots[int(visits.lenders[visit])]))
        drawn = generator(key).integers(0, len(rows), size)
        features: np.ndarray = data.features[rows[drawn]]
        return features

    return context_of


class _OwnContexts:
    """The prior episodes of every visit with their true rewards, as PEARL's encoder sees them."""

    def __init__(self, context_next_obs: bool) -> None:
        self.wide = context_next_obs
        self.bags: list[np.ndarray] = []

    def keep(self, block: VisitedEpisodes) -> None:
        """Lay the prior block out as one context a visit."""
        for visit in range(int(block.visit.max()) + 1):
            mine = block.episodes.select(np.flatnonzero(block.visit == visit))
            mask = flat_rows(mine)
            after = next_observations(mine)[mask] if self.wide else None
            features = context_features(mine.obs[mask], mine.action[mask], mine.reward[mask], after)
            self.bags.append(features)

    def context_of(self, size: int) -> ContextOf:
        """Draw the contexts of a visit from what it saw itself."""

        def draw(visit: int, key: Key) -> np.ndarray:
            bag = self.bags[visit]
            drawn: np.ndarray = bag[generator(key).integers(0, len(bag), size)]
            return drawn

        return draw


def explore(stage: StageRun) -> None:
    """Visit tasks and write what happened.

    Args:
        stage: The running stage.

    Source: smac-reference section 5.2, points 1a and 1b.
    """
    args = stage.args
    config: RolloutConfig = stage.section
    tasks = read_tasks(args.tasks, stage.env)
    model = read_model(args.checkpoint, stage.env, current_round=args.round - 1)
    visits = draw_visits(config, tasks, generator((args.seed, ROLLOUT, args.round)))
    task_ids = visits.task_ids
    own = _OwnContexts(model.agent.context_next_obs) if config.context == "visit" else None
    size = config.visit.context_size
    if own is not None:
        context_of = own.context_of(size)
    else:
        context_of = _from_buffers(_exploration_context(stage, tasks, model), visits, size)

    result = run_visits(
        BatchDriver(stage.env),
        model.agent,
        config.visit,
        tasks.parameters[task_ids],
        [(args.seed, ROLLOUT, args.round, visit) for visit in range(len(task_ids))],
        context_of,
        rewards=config.record_rewards,
        on_prior_block=own.keep if own else None,
    )
    episodes = result.episodes
    labels = {
        "task_id": task_ids[result.visit],
        "source": result.source,
        "iteration": np.full(len(result.visit), args.round),
    }
    if config.exploration_tasks == "test":
        labels["buffer"] = visits.buffers[result.visit]
    write_episodes(
        args.out,
        stage.env,
        flatten(episodes),
        labels,
        params=stage.env_config.params,
        rewards=config.record_rewards,
    )
    inputs: dict[str, Path] = {
        "tasks": args.tasks,
        "checkpoint": args.checkpoint,
        "transitions": args.transitions,
    }
    extra = {
        "environment_steps": int(episodes.length.sum()),
        "episodes": len(episodes.length),
        "visited_tasks": task_ids.tolist(),
        "diverged_episodes": int((~episodes.ok).sum()),
    }
    stage.finish(inputs, {"transitions": args.out}, extra)


def run(args: argparse.Namespace) -> None:
    """Write each seed's transitions of this round.

    Args:
        args: Parsed arguments.
    """
    for_each_seed("rollout", args, explore)


if __name__ == "__main__":
    stage_main(run, make_parser())
