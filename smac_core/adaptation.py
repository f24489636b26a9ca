"""The meta-test protocol: explore under the prior, infer the task, and act on it.

Source: smac-reference section 6; the arms isolate the context shift of the paper's section 4.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from smac_core.agent import Agent, Posteriors, prior
from smac_core.config import AdaptationConfig
from smac_core.dataset import context_features
from smac_core.envs.episodes import BatchDriver, Controller, Episodes
from smac_core.planning import Key, flat_rows, generator, next_observations, plan_episodes

# Numbers of the single-episode arms in the random streams, clear of the meta-episode's own.
PRIOR_EPISODE, MATCHED_EPISODE, OFFLINE_EPISODE = 10_001, 10_002, 10_003
NOTHING_EPISODE, RANDOM_EPISODE = 10_004, 10_005
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
        posterior_mean: ``[T, R, latent_dim]`` float32 of the last episode's z.
        posterior_variance: ``[T, R, latent_dim]`` float32.
        posterior_kl: ``[T, R]`` float32 divergence from the prior (nats).
        decoder_mse: ``[T, R]`` float32 squared error of the decoder on the last episode.
        first_path: ``[T, H + 1, 2]`` float32 positions in the first episode (m), first repeat.
        final_path: ``[T, H + 1, 2]`` float32 positions in the last episode (m), first repeat.
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


@dataclass(frozen=True)
class Adaptation:
    """The same meta-episodes under both counts; they part only where episodes end early.

    Args:
        by_episodes: After exactly the configured number of episodes.
        by_transitions: After whole episodes up to the configured number of transitions.
        explored: Per meta-episode the transitions of its exploration ``[n, features]``.
    """

    by_episodes: Arm
    by_transitions: Arm
    explored: list[np.ndarray]


@dataclass(frozen=True)
class MetaTest:
    """A meta-test on some tasks.

    Args:
        driver: The simulators.
        agent: Acts deterministically.
        config: The protocol.
        task_ids: ``[T]``.
        tasks: ``[T, task_dim]`` parameters.
        key: Names the random streams.
    """

    driver: BatchDriver
    agent: Agent
    config: AdaptationConfig
    task_ids: Sequence[int]
    tasks: np.ndarray
    key: Key

    @property
    def num(self) -> int:
        """Number of meta-episodes: tasks times repeats, task by task."""
        return len(self.task_ids) * self.config.repeats

    def _episodes(
        self,
        rows: np.ndarray,
        number: int,
        posterior: Posteriors,
        controller: Controller | None = None,
    ) -> Episodes:
        repeats = self.config.repeats
        keys = [
            (*self.key, int(self.task_ids[row // repeats]), int(row % repeats), number)
            for row in rows
        ]
        plan = plan_episodes(
            self.driver.env,
            keys,
            self.tasks[rows // repeats],
            posterior,
            resample_every_step=self.config.resample_latent == "step",
        )
        return self.driver.run(controller or self.agent.deterministic(), plan, rewards=True)

    def features(self, episodes: Episodes) -> list[np.ndarray]:
        """Lay each episode's transitions out as a context.

        Args:
            episodes: With true rewards.

        Returns:
            Per episode ``[length, features]`` float32.
        """
        mask = flat_rows(episodes)
        after = next_observations(episodes)[mask] if self.agent.context_next_obs else None
        flat = context_features(
            episodes.obs[mask], episodes.action[mask], episodes.reward[mask], after
        )
        return np.split(flat, np.cumsum(episodes.length)[:-1])

    def online(self) -> tuple[Arm, list[np.ndarray]]:
        """Adapt to the agent's own exploration, for exactly the configured number of episodes.

        Returns:
            The arm, and per meta-episode the transitions that it explored before adapting.
        """
        episodes, _, explored = self._adapt(0)
        return episodes.arm(), explored

    def adapt(self) -> Adaptation:
        """Adapt to the agent's own exploration, until both counts are reached.

        Returns:
            The arm of each count, and what was explored before adapting.

        Source: the paper counts episodes, the released code transitions; docs/deviations.md#D19.
        """
        episodes, transitions, explored = self._adapt(self.config.min_transitions)
        return Adaptation(episodes.arm(), transitions.arm(), explored)

    def _adapt(self, transitions: int) -> tuple[_Record, _Record, list[np.ndarray]]:
        """Run the configured episodes of all, and further ones of those short of transitions."""
        cfg = self.config
        bags: list[list[np.ndarray]] = [[] for _ in range(self.num)]
        taken = np.zeros(self.num, dtype=np.int64)
        counted, stepped = _Record(self), _Record(self)
        for number in itertools.count():
            short = taken < transitions
            rows = np.flatnonzero(short | (number < cfg.episodes))
            if len(rows) == 0:
                break
            if number < cfg.exploration_episodes:
                posterior = prior(len(rows), self.agent.latent_dim)
            else:
                posterior = self.agent.infer([np.concatenate(bags[row]) for row in rows])
            episodes = self._episodes(rows, number, posterior)
            for row, features in zip(rows, self.features(episodes), strict=True):
                bags[row].append(features)
            taken[rows] += episodes.length
            if number < cfg.episodes:
                counted.add(rows, posterior, episodes)
            if short.any():
                chosen = np.flatnonzero(short[rows])
                stepped.add(rows[chosen], posterior.select(chosen), episodes.select(chosen))
        explored = [np.concatenate(bag[: cfg.exploration_episodes]) for bag in bags]
        return counted, stepped, explored

    def given(self, contexts: Sequence[np.ndarray] | None, number: int) -> Arm:
        """Act once under q(z|context), or under the prior where there is no context.

        Args:
            contexts: Per meta-episode ``[K, features]`` float32; None: the prior.
            number: Number of the episode in the random streams.

        Returns:
            The arm, with one episode.
        """
        if contexts is None:
            return self.under(prior(self.num, self.agent.latent_dim), number)
        return self.under(self.agent.infer(contexts), number)

    def under(self, posterior: Posteriors, number: int) -> Arm:
        """Act once under given posteriors.

        Args:
            posterior: One a meta-episode.
            number: Number of the episode in the random streams.

        Returns:
            The arm, with one episode.
        """
        rows = np.arange(self.num)
        record = _Record(self)
        record.add(rows, posterior, self._episodes(rows, number, posterior))
        return record.arm()

    def floor(self, controller: Controller, number: int) -> Arm:
        """Act by a controller that knows no task, such as doing nothing.

        Args:
            controller: What acts.
            number: Number of the episode in the random streams.

        Returns:
            The arm, with one episode.
        """
        rows = np.arange(self.num)
        unknown = prior(self.num, self.agent.latent_dim)
        record = _Record(self)
        episodes = self._episodes(rows, number, unknown, controller)
        record.add(rows, unknown, episodes)
        return record.arm()

    def resample(self, bags: Sequence[np.ndarray], purpose: int) -> list[np.ndarray]:
        """Draw contexts of the configured size, i.i.d. with replacement.

        Offline and online contexts must have the same size before their posteriors are compared:
        the variance of a product of Gaussians shrinks as 1/n (smac-reference section 6.3).

        Args:
            bags: Per meta-episode ``[n, features]``.
            purpose: Keeps the stream apart from others.

        Returns:
            Per meta-episode ``[context_size, features]``.
        """
        out = []
        for row, bag in enumerate(bags):
            rng = generator((*self.key, purpose, row))
            out.append(bag[rng.integers(0, len(bag), self.config.context_size)])
        return out


def do_nothing(obs: np.ndarray, latent: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Return zero actions; the floor that every return must be read against."""
    return np.zeros(noise.shape, dtype=np.float32)


def act_at_random(obs: np.ndarray, latent: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Return tanh of the noise, the law of an untrained policy."""
    action: np.ndarray = np.tanh(noise)
    return action


class _Record:
    """Collects the episodes of one arm."""

    def __init__(self, test: MetaTest) -> None:
        self.test = test
        self.columns: dict[str, list[np.ndarray]] = {
            name: [] for name in ("episode_return", "episode_length", "episode_end", "measure")
        }
        num, latent_dim = test.num, test.agent.latent_dim
        self.mean = np.zeros((num, latent_dim), dtype=np.float32)
        self.variance = np.ones((num, latent_dim), dtype=np.float32)
        self.mse = np.full(num, np.nan, dtype=np.float32)
        path = np.full((num, test.driver.env.horizon + 1, 2), np.nan, dtype=np.float32)
        self.first, self.path = path, path.copy()

    def add(self, rows: np.ndarray, posterior: Posteriors, episodes: Episodes) -> None:
        """Note one episode of some meta-episodes; later episodes replace earlier posteriors."""
        self._note("episode_return", rows, episodes.returns.astype(np.float32), np.nan)
        self._note("episode_length", rows, episodes.length.astype(np.int32), 0)
        end = np.where(episodes.terminated, TERMINATED, TIME_LIMIT)
        end = np.where(episodes.ok, end, DIVERGED).astype(np.int8)
        if not self.columns["episode_end"]:
            self.first[rows] = episodes.path
        self._note("episode_end", rows, end, NO_EPISODE)
        tasks = self.test.tasks[rows // self.test.config.repeats]
        measured = self.test.driver.env.measure(episodes.path, episodes.length, tasks)
        self._note("measure", rows, measured.astype(np.float32), np.nan)
        self.mean[rows], self.variance[rows] = posterior.mean, posterior.variance
        self.path[rows] = episodes.path
        mask = flat_rows(episodes)
        which = np.repeat(np.arange(len(rows)), episodes.length)
        predicted = self.test.agent.decode(
            episodes.obs[mask], episodes.action[mask], posterior.mean, which
        )
        error = (predicted.astype(np.float64) - episodes.reward[mask]) ** 2
        self.mse[rows] = np.bincount(which, error, len(rows)) / episodes.length

    def _note(self, name: str, rows: np.ndarray, values: np.ndarray, absent: int | float) -> None:
        column = np.full((self.test.num, *values.shape[1:]), absent, dtype=values.dtype)
        column[rows] = values
        self.columns[name].append(column)

    def arm(self) -> Arm:
        """Shape everything as tasks by repeats."""
        test = self.test
        shape = (len(test.task_ids), test.config.repeats)
        posterior = Posteriors(self.mean, self.variance)
        columns = {name: np.stack(parts, axis=1) for name, parts in self.columns.items()}

        def of_first_repeat(paths: np.ndarray) -> np.ndarray:
            return paths.reshape(*shape, *paths.shape[1:])[:, 0].copy()

        return Arm(
            task_id=np.asarray(test.task_ids, dtype=np.int32),
            **{name: c.reshape(*shape, *c.shape[1:]) for name, c in columns.items()},
            posterior_mean=self.mean.reshape(*shape, -1),
            posterior_variance=self.variance.reshape(*shape, -1),
            posterior_kl=posterior.kl().reshape(shape),
            decoder_mse=self.mse.reshape(shape),
            first_path=of_first_repeat(self.first),
            final_path=of_first_repeat(self.path),
        )
