"""Episodes as the MAML methods read them: returns within what a phase sees, windows of a task.

Torch-free. Source: baselines.md sections 0.2 and 2, "Data columns".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from smac_core.errors import StoreError
from smac_core.planning import generator

# Keeps these draws apart from the streams that smac_core.planning and smac_core.sampler name.
BATCHES = 0x4D


@dataclass(frozen=True)
class Rows:
    """Rows of episodes in collection order, as a store or an agent's memory has them.

    Args:
        obs: ``[N, obs_dim]`` float32.
        action: ``[N, action_dim]`` float32.
        reward: ``[N]`` float32, unscaled.
        next_obs: ``[N, obs_dim]`` float32.
        terminated: ``[N]`` bool.
        episode: ``[N]`` int64, rising; rows of an episode are consecutive.
        t: ``[N]`` int64 step within its episode.
        ended: ``[N]`` bool, whether its episode ended here: terminated or time limit.
    """

    obs: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    next_obs: np.ndarray
    terminated: np.ndarray
    episode: np.ndarray
    t: np.ndarray
    ended: np.ndarray

    def take(self, rows: np.ndarray) -> Rows:
        """Return some of the rows, in the given order."""
        return Rows(**{name: getattr(self, name)[rows] for name in Rows.__dataclass_fields__})


@dataclass(frozen=True)
class Columns:
    """What `smac_core.maml.objective.TaskRows` describes, in NumPy, float32."""

    obs: np.ndarray
    action: np.ndarray
    discounted_return: np.ndarray
    last_obs: np.ndarray
    tail_discount: np.ndarray
    cut: np.ndarray

    def take(self, rows: np.ndarray) -> Columns:
        """Return some of the rows; ``rows`` may have any shape, which then leads."""
        return Columns(**{name: getattr(self, name)[rows] for name in Columns.__dataclass_fields__})


def episode_columns(
    rows: Rows, discount: float, reward_scale: float = 1.0, *, bootstrap_terminal: bool = False
) -> Columns:
    """Compute returns and tails within what is there: a slice may begin or end mid-episode.

    Args:
        rows: In collection order.
        discount: Per step.
        reward_scale: Factor of the rewards.
        bootstrap_terminal: Value what follows a terminal state as if the episode went on.

    Returns:
        The columns of the same rows.
    """
    num = len(rows.reward)
    follows = (np.diff(rows.episode) == 0) & (np.diff(rows.t) == 1)
    last = np.append(~follows, True)
    end = np.flatnonzero(last)  # last row of each piece of an episode
    begin = np.concatenate([[0], end[:-1] + 1])
    piece = np.cumsum(np.concatenate([[0], last[:-1]])).astype(np.int64)
    total = rows.reward.astype(np.float64) * reward_scale
    for back in range(1, int((end - begin).max(initial=0)) + 1):
        here = end - back
        here = here[here >= begin]
        total[here] += discount * total[here + 1]
    steps = end[piece] - np.arange(num) + 1
    dead = rows.terminated[end].astype(bool) & (not bootstrap_terminal)
    return Columns(
        obs=rows.obs.astype(np.float32),
        action=rows.action.astype(np.float32),
        discounted_return=total.astype(np.float32),
        last_obs=rows.next_obs[end][piece].astype(np.float32),
        tail_discount=np.where(dead[piece], 0.0, discount**steps).astype(np.float32),
        cut=(~rows.ended[end].astype(bool))[piece].astype(np.float32),
    )


class MamlSampler:
    """Draws meta-batches; batch n is a function of (seed, n) alone, so a run may resume anywhere.

    Args:
        inner: Per task the rows that it adapts on, in collection order.
        outer: Per task the rows that it is measured on.
        sizes: Tasks in a batch, inner rows and outer rows of each.
        seed: Of the draws.

    Raises:
        StoreError: A task has fewer rows than one window.
    """

    def __init__(
        self,
        inner: Sequence[Columns],
        outer: Sequence[Columns],
        sizes: tuple[int, int, int],
        seed: int,
    ) -> None:
        self.num_tasks, self.inner_rows, self.outer_rows = sizes
        self.seed = seed
        short = min(len(part.cut) for part in inner)
        if short < self.inner_rows:
            raise StoreError(
                "a task with too few transitions to adapt on",
                where="the slice of meta_train",
                expected=f"{self.inner_rows} consecutive rows",
                found=f"{short} rows",
                fix="collect more, widen the slice, or lower inner_rows in the config",
            )
        if self.num_tasks > len(inner):
            raise StoreError(
                "fewer tasks than a meta-batch has",
                where="the tasks of meta_train",
                expected=self.num_tasks,
                found=len(inner),
                fix="lower num_tasks in the config, or collect more training tasks",
            )
        self._inner, self._inner_starts = _join(inner)
        self._outer, self._outer_starts = _join(outer)

    def draw(self, update: int) -> tuple[Columns, Columns]:
        """Draw one meta-batch.

        Args:
            update: Number of the update.

        Returns:
            Inner and outer rows ``[M, B, …]``: a window of consecutive rows of each of M different
            tasks, and independent rows of the same tasks.
        """
        rng = generator((self.seed, BATCHES, update, 1))
        tasks = rng.permutation(len(self._inner_starts) - 1)[: self.num_tasks]
        free = np.diff(self._inner_starts)[tasks] - self.inner_rows + 1
        start = self._inner_starts[tasks] + rng.integers(0, free)
        window = start[:, None] + np.arange(self.inner_rows)
        counts = np.diff(self._outer_starts)[tasks, None]
        drawn = rng.integers(0, counts, (self.num_tasks, self.outer_rows))
        return self._inner.take(window), self._outer.take(self._outer_starts[tasks, None] + drawn)


def _join(parts: Sequence[Columns]) -> tuple[Columns, np.ndarray]:
    """Lay tasks one after another; where each begins."""
    names = Columns.__dataclass_fields__
    joined = Columns(**{n: np.concatenate([getattr(p, n) for p in parts]) for n in names})
    return joined, np.cumsum([0, *(len(part.cut) for part in parts)])
