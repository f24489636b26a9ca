"""Episodes one after another without padding: what a collection keeps of them.

Where episodes end early, padded ones are mostly padding: a humanoid that falls after 24 of 200
steps would take eight times the memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from smac_core.dataset import Transitions
from smac_core.envs.episodes import Episodes
from smac_core.planning import flat_rows


@dataclass(frozen=True)
class EpisodeRows:
    """N episodes of T steps in all.

    Args:
        obs: ``[T, obs_dim]`` float32.
        action: ``[T, action_dim]`` float32.
        reward: ``[T]`` float32; nan where rewards were not asked for.
        position: ``[T, 2]`` float32 before each action (m).
        length: ``[N]`` int64 steps, at least one.
        terminated: ``[N]`` bool, whether the last step ended in a terminal state.
        final_obs: ``[N, obs_dim]`` float32, after the last step.
        ok: ``[N]`` bool; False: the simulator diverged, and the episode was cut before that step.
    """

    obs: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    position: np.ndarray
    length: np.ndarray
    terminated: np.ndarray
    final_obs: np.ndarray
    ok: np.ndarray

    @property
    def ends(self) -> np.ndarray:
        """Row after the last of each episode."""
        ends: np.ndarray = np.cumsum(self.length)
        return ends

    @property
    def returns(self) -> np.ndarray:
        """Undiscounted return of each episode, float64."""
        total: np.ndarray = np.add.reduceat(self.reward.astype(np.float64), self.ends - self.length)
        return total

    @property
    def ended(self) -> np.ndarray:
        """Whether a row is the last of its episode and terminal ``[T]``."""
        ended = np.zeros(len(self.obs), dtype=bool)
        ended[self.ends - 1] = self.terminated
        return ended

    def select(self, episodes: np.ndarray) -> EpisodeRows:
        """Return some of the episodes.

        Args:
            episodes: ``[K]`` their numbers, in the order wanted.

        Returns:
            Their rows.
        """
        length = self.length[episodes]
        shift = (self.ends - self.length)[episodes] - (np.cumsum(length) - length)
        rows = np.arange(length.sum()) + np.repeat(shift, length)
        a_row = ("obs", "action", "reward", "position")
        names = EpisodeRows.__dataclass_fields__
        picked = {n: getattr(self, n)[rows if n in a_row else episodes] for n in names}
        return EpisodeRows(**picked)

    def transitions(self, task_id: np.ndarray, source: np.ndarray) -> Transitions:
        """Pair every observation with the next.

        Args:
            task_id: ``[N]``.
            source: ``[N]`` codes of how they were collected.

        Returns:
            The rows, in order.
        """
        after = np.empty_like(self.obs)
        after[:-1] = self.obs[1:]
        after[self.ends - 1] = self.final_obs
        return Transitions(
            obs=self.obs,
            action=self.action,
            reward=self.reward,
            next_obs=after,
            terminated=self.ended.astype(np.float32),
            task_id=np.repeat(task_id, self.length),
            source=np.repeat(source, self.length),
        )


def flatten(episodes: Episodes) -> EpisodeRows:
    """Drop the padding.

    Args:
        episodes: ``[N, H]`` padded.

    Returns:
        Their rows, episode by episode.
    """
    mask = flat_rows(episodes)
    return EpisodeRows(
        obs=episodes.obs[mask],
        action=episodes.action[mask],
        reward=episodes.reward[mask],
        position=episodes.path[:, :-1][mask],
        length=episodes.length,
        terminated=episodes.terminated,
        final_obs=episodes.final_obs,
        ok=episodes.ok,
    )


def join_rows(parts: Sequence[EpisodeRows]) -> EpisodeRows:
    """Join episodes of the same environment.

    Args:
        parts: In order.

    Returns:
        All episodes, in order.
    """
    if len(parts) == 1:
        return parts[0]
    names = EpisodeRows.__dataclass_fields__
    return EpisodeRows(**{n: np.concatenate([getattr(p, n) for p in parts]) for n in names})
