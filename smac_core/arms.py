"""What a meta-test measures of one way to adapt, collected episode by episode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from smac_core.envs.episodes import Episodes
from smac_core.meta_agent import Diagnosis
from smac_core.planning import flat_rows

if TYPE_CHECKING:
    from smac_core.adaptation import MetaTest

NO_EPISODE, TIME_LIMIT, TERMINATED, DIVERGED = range(4)  # codes of pipeline.store.EPISODE_ENDS


@dataclass(frozen=True)
class Arm:
    """One way to adapt, measured on T tasks with R repeats.

    Args:
        task_id: ``[T]`` int32.
        episode_return: ``[T, R, E]`` float32, true unscaled returns; nan: no such episode.
        episode_length: ``[T, R, E]`` int32 steps; 0: no such episode.
        episode_end: ``[T, R, E]`` int8 codes: no such episode, time limit, terminated, diverged.
        measure: ``[T, R, E, M]`` float32, the environment's ``measure``; nan: no such episode.
        posterior_mean: ``[T, R, latent_dim]`` float32 before the last episode; nan without one.
        posterior_variance: ``[T, R, latent_dim]`` float32.
        posterior_kl: ``[T, R]`` float32 divergence from the prior (nats).
        decoder_mse: ``[T, R]`` float32 squared error of the decoder on the last episode.
        first_path: ``[T, H + 1, 2]`` float32 positions in the first episode (m), first repeat.
        final_path: ``[T, H + 1, 2]`` float32 positions in the last episode (m), first repeat.
        start_value: ``[T, R]`` float32, what the critic says of the last episode's first step; nan
            where there is none, or somebody else acts.
        discounted_return: ``[T, R]`` float32, what was realised, in the critic's unit.
    """

    task_id: np.ndarray
    episode_return: np.ndarray
    episode_length: np.ndarray
    episode_end: np.ndarray
    measure: np.ndarray
    posterior_mean: np.ndarray
    posterior_variance: np.ndarray
    posterior_kl: np.ndarray
    decoder_mse: np.ndarray
    first_path: np.ndarray
    final_path: np.ndarray
    start_value: np.ndarray
    discounted_return: np.ndarray


class Note:
    """One episode of some meta-episodes, with what was believed when it began.

    Args:
        test: The meta-test.
        rows: ``[n]`` meta-episodes.
    """

    def __init__(self, test: MetaTest, rows: np.ndarray) -> None:
        believed = test.agent.diagnosis()
        self.test, self.rows = test, rows
        self.belief = Diagnosis(believed.mean[rows], believed.variance[rows], believed.kl[rows])

    def played(self, episodes: Episodes, *, own: bool = True) -> None:
        """Add what happened, and what the agent would have told of it; `own`: it acted itself."""
        self.episodes = episodes
        mask = flat_rows(episodes)
        which = np.repeat(np.arange(len(self.rows)), episodes.length)
        predicted = self.test.agent.predict_rewards(
            self.rows[which], episodes.obs[mask], episodes.action[mask]
        )
        self.mse = np.full(len(self.rows), np.nan, dtype=np.float32)
        if predicted is not None:
            error = (predicted.astype(np.float64) - episodes.reward[mask]) ** 2
            self.mse[:] = np.bincount(which, error, len(self.rows)) / episodes.length
        judged = self.test.agent.judge(self.rows, episodes) if own else None
        self.judged = np.full((2, len(self.rows)), np.nan) if judged is None else np.stack(judged)


class Record:
    """Collects the episodes of one arm.

    Args:
        test: The meta-test.
    """

    def __init__(self, test: MetaTest) -> None:
        self.test = test
        self.columns: dict[str, list[np.ndarray]] = {
            name: [] for name in ("episode_return", "episode_length", "episode_end", "measure")
        }
        self.last: dict[str, np.ndarray] = {}
        path = np.full((test.num, test.driver.env.horizon + 1, 2), np.nan, dtype=np.float32)
        self.first, self.path = path, path.copy()

    def add(self, note: Note, chosen: np.ndarray) -> None:
        """Take some episodes of a note; what was believed before a later one replaces the rest."""
        rows, episodes = note.rows[chosen], note.episodes.select(chosen)
        self._column("episode_return", rows, episodes.returns.astype(np.float32), np.nan)
        self._column("episode_length", rows, episodes.length.astype(np.int32), 0)
        end = np.where(episodes.terminated, TERMINATED, TIME_LIMIT)
        end = np.where(episodes.ok, end, DIVERGED).astype(np.int8)
        if not self.columns["episode_end"]:
            self.first[rows] = episodes.path
        self._column("episode_end", rows, end, NO_EPISODE)
        tasks = self.test.tasks[rows // self.test.config.repeats]
        measured = self.test.driver.env.measure(episodes.path, episodes.length, tasks)
        self._column("measure", rows, measured.astype(np.float32), np.nan)
        self.path[rows] = episodes.path
        self._replace("posterior_mean", rows, note.belief.mean[chosen])
        self._replace("posterior_variance", rows, note.belief.variance[chosen])
        self._replace("posterior_kl", rows, note.belief.kl[chosen])
        self._replace("decoder_mse", rows, note.mse[chosen])
        self._replace("start_value", rows, note.judged[0, chosen])
        self._replace("discounted_return", rows, note.judged[1, chosen])

    def _column(self, name: str, rows: np.ndarray, values: np.ndarray, absent: int | float) -> None:
        column = np.full((self.test.num, *values.shape[1:]), absent, dtype=values.dtype)
        column[rows] = values
        self.columns[name].append(column)

    def _replace(self, name: str, rows: np.ndarray, values: np.ndarray) -> None:
        if name not in self.last:
            shape = (self.test.num, *values.shape[1:])
            self.last[name] = np.full(shape, np.nan, dtype=np.float32)
        self.last[name][rows] = values

    def arm(self) -> Arm:
        """Shape everything as tasks by repeats."""
        test = self.test
        shape = (len(test.task_ids), test.config.repeats)
        columns = {name: np.stack(parts, axis=1) for name, parts in self.columns.items()}

        def of_first_repeat(paths: np.ndarray) -> np.ndarray:
            return paths.reshape(*shape, *paths.shape[1:])[:, 0].copy()

        return Arm(
            task_id=np.asarray(test.task_ids, dtype=np.int32),
            **{n: c.reshape(*shape, *c.shape[1:]) for n, c in (columns | self.last).items()},
            first_path=of_first_repeat(self.first),
            final_path=of_first_repeat(self.path),
        )


def single(note: Note) -> Arm:
    """Make an arm of one episode.

    Args:
        note: Of every meta-episode.

    Returns:
        The arm.
    """
    record = Record(note.test)
    record.add(note, np.arange(len(note.rows)))
    return record.arm()
