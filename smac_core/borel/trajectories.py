"""Trajectories of a Bayes-adaptive problem: episodes of one task, one after another.

Three episodes of a task stand behind each other, as at meta-test; the belief goes on over their
boundaries. Which ones is drawn anew for every batch. With reward relabelling all but the last come
from another task, with the rewards that this task would have given: else the states that the data
visit would tell the task, and the belief would not look at rewards (MDP ambiguity).

Source: baselines.md section 3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from smac_core.dataset import Transitions
from smac_core.errors import StoreError

RewardOfRows = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""Environment.reward_of_rows."""


@dataclass(frozen=True)
class EpisodeTable:
    """Whole episodes of the training tasks.

    Args:
        rows: All rows in collection order.
        start: ``[E]`` first row of each episode, int64.
        length: ``[E]`` steps, int64.
        of_slot: For each task slot its episodes.
        task: ``[slots, task_dim]`` parameters.
    """

    rows: Transitions
    start: np.ndarray
    length: np.ndarray
    of_slot: tuple[np.ndarray, ...]
    task: np.ndarray


@dataclass(frozen=True)
class Trajectories:
    """B trajectories, padded behind their end.

    Args:
        obs: ``[B, T, obs_dim]`` float32.
        action: ``[B, T, action_dim]`` float32.
        reward: ``[B, T]`` float32.
        next_obs: ``[B, T, obs_dim]`` float32, of the same episode.
        terminated: ``[B, T]`` float32.
        begins: ``[B, T]`` float32, 1 at the first step of every episode but the first.
        follow_obs: ``[B, T, obs_dim]`` float32, what the agent sees next: at the end of an episode
            that is the start of the next one.
        follow_begins: ``[B, T]`` float32, ``begins`` of that observation.
        length: ``[B]`` int64 steps.
    """

    obs: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    next_obs: np.ndarray
    terminated: np.ndarray
    begins: np.ndarray
    follow_obs: np.ndarray
    follow_begins: np.ndarray
    length: np.ndarray

    @property
    def mask(self) -> np.ndarray:
        """Whether a step is none of the padding ``[B, T]`` bool."""
        within: np.ndarray = np.arange(self.reward.shape[1]) < self.length[:, None]
        return within


def table_of_episodes(
    rows: Transitions,
    ends: np.ndarray,
    used: Sequence[np.ndarray],
    task: np.ndarray,
    task_ids: Sequence[int],
) -> EpisodeTable:
    """Find the whole episodes among the rows that a phase may use.

    Args:
        rows: All rows of a store in collection order.
        ends: ``[E]`` row after the last of each episode.
        used: For each task slot the rows of its slice, in order.
        task: ``[slots, task_dim]`` parameters.
        task_ids: For messages, the task of each slot.

    Returns:
        The table.

    Raises:
        StoreError: A task has no whole episode, or values that are not finite.
    """
    length = np.diff(ends, prepend=0)
    start = ends - length
    slots: list[np.ndarray] = []
    for slot, chosen in enumerate(used):
        episode = np.searchsorted(ends, chosen, side="right")
        which, count = np.unique(episode, return_counts=True)
        slots.append(which[count == length[which]])
        if len(slots[-1]) == 0:
            raise StoreError(
                "no whole episode",
                where=f"the slice of task {task_ids[slot]}",
                expected="at least one, for BOReL learns from trajectories",
                found=f"{len(chosen)} rows of {len(which)} episode(s)",
                fix="widen meta_train.replay in the config, or collect longer",
            )
        _require_finite(rows, np.concatenate([np.arange(start[e], ends[e]) for e in slots[-1]]))
    return EpisodeTable(rows, start, length, tuple(slots), np.asarray(task, dtype=np.float64))


def _require_finite(rows: Transitions, chosen: np.ndarray) -> None:
    for field in ("obs", "action", "reward", "next_obs"):
        if not np.isfinite(getattr(rows, field)[chosen]).all():
            raise StoreError(
                f"{field} is not finite in the rows of this phase",
                expected="finite numbers",
                fix="run `python -m pipeline.verify` and collect the damaged store again",
            )


def _draw_episodes(available: np.ndarray, num: int, rng: np.random.Generator) -> np.ndarray:
    """Draw episodes, twice the same only where there are too few."""
    drawn: np.ndarray = rng.choice(available, num, replace=len(available) < num)
    return drawn


def draw_trajectories(
    table: EpisodeTable,
    slots: np.ndarray,
    episodes: int,
    rng: np.random.Generator,
    relabel: tuple[float, RewardOfRows] | None,
) -> Trajectories:
    """Put episodes together.

    Args:
        table: The episodes.
        slots: ``[B]`` task slot of each trajectory.
        episodes: Episodes a trajectory.
        rng: Source of the draw.
        relabel: Probability that all but the last episode come from another task, and the function
            that gives their rewards; None: every episode is the task's own.

    Returns:
        The trajectories.
    """
    chosen = np.empty((len(slots), episodes), dtype=np.int64)
    foreign = np.zeros((len(slots), episodes), dtype=bool)
    for place, slot in enumerate(slots):
        chosen[place] = _draw_episodes(table.of_slot[slot], episodes, rng)
        if relabel is not None and len(table.of_slot) > 1 and rng.random() < relabel[0]:
            other = (slot + rng.integers(1, len(table.of_slot))) % len(table.of_slot)
            chosen[place, :-1] = _draw_episodes(table.of_slot[other], episodes - 1, rng)
            foreign[place, :-1] = True
    reward_of_rows = None if relabel is None else relabel[1]
    return _lay_out(table, slots, chosen, foreign, reward_of_rows)


def _lay_out(
    table: EpisodeTable,
    slots: np.ndarray,
    chosen: np.ndarray,
    foreign: np.ndarray,
    reward_of_rows: RewardOfRows | None,
) -> Trajectories:
    """Copy the chosen episodes ``[B, k]``, those that are foreign with rewards of the own task."""
    lengths = table.length[chosen]
    total = lengths.sum(axis=1)
    shape = (len(slots), int(total.max()))
    index = np.zeros(shape, dtype=np.int64)
    first, other = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
    for place in range(len(slots)):
        at = 0
        for number, episode in enumerate(chosen[place]):
            end = at + lengths[place, number]
            index[place, at:end] = table.start[episode] + np.arange(end - at)
            first[place, at] = True
            other[place, at:end] = foreign[place, number]
            at = end
    rows = table.rows
    obs, next_obs, reward = rows.obs[index], rows.next_obs[index], rows.reward[index]
    if reward_of_rows is not None and other.any():
        where = index[other]
        task = table.task[np.repeat(slots, other.sum(axis=1))]
        reward[other] = reward_of_rows(
            rows.obs[where], rows.action[where], rows.next_obs[where], task, first[other]
        )
    begins = first.astype(np.float32)
    begins[:, 0] = 0.0
    follow_obs, follow_begins = next_obs.copy(), np.zeros_like(begins)
    inner = np.arange(1, shape[1]) < total[:, None]
    follow_obs[:, :-1][inner] = obs[:, 1:][inner]
    follow_begins[:, :-1][inner] = begins[:, 1:][inner]
    return Trajectories(
        obs=obs,
        action=rows.action[index],
        reward=reward,
        next_obs=next_obs,
        terminated=rows.terminated[index],
        begins=begins,
        follow_obs=follow_obs,
        follow_begins=follow_begins,
        length=total,
    )


def draw_latent_steps(
    length: np.ndarray, num: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw from which latents of a trajectory is decoded, without replacement.

    Args:
        length: ``[B]`` steps of each trajectory, which has one latent more.
        num: How many latents of each.
        rng: Source of the draw.

    Returns:
        Steps ``[B, n]`` int64, and weights ``[B, n]`` float32 that make the weighted sum over the
        drawn latents an unbiased estimate of the sum over all; 0 where a trajectory has fewer.
    """
    latents = length + 1
    width = int(latents.max())
    keys = rng.random((len(length), width))
    keys[np.arange(width) >= latents[:, None]] = 2.0
    steps = np.argsort(keys, axis=1)[:, : min(num, width)]
    drawn = np.minimum(latents, steps.shape[1])
    weight = np.where(np.arange(steps.shape[1]) < drawn[:, None], (latents / drawn)[:, None], 0.0)
    return np.where(weight > 0, steps, 0), weight.astype(np.float32)
