"""The meta-test protocol: explore under the prior, infer the task, and act on it.

Source: smac-reference section 6; the arms isolate the context shift of the paper's section 4.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from smac_core.config import AdaptationConfig
from smac_core.envs.episodes import Adaptive, BatchDriver, Controller, Episodes, Plan
from smac_core.meta_agent import Context, Diagnosis, MetaAgent, join_contexts
from smac_core.planning import Key, flat_rows, generator, next_observations

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


@dataclass(frozen=True)
class Adaptation:
    """The same meta-episodes under both counts; they part only where episodes end early.

    Args:
        by_episodes: After exactly the configured number of episodes.
        by_transitions: After whole episodes up to the configured number of transitions.
        explored: Per meta-episode the transitions of its exploration.
    """

    by_episodes: Arm
    by_transitions: Arm
    explored: list[Context]


@dataclass(frozen=True)
class MetaTest:
    """A meta-test on some tasks.

    Args:
        driver: The simulators.
        agent: What adapts.
        config: The protocol.
        task_ids: ``[T]``.
        tasks: ``[T, task_dim]`` parameters.
        key: Names the random streams.
    """

    driver: BatchDriver
    agent: MetaAgent
    config: AdaptationConfig
    task_ids: Sequence[int]
    tasks: np.ndarray
    key: Key

    @property
    def num(self) -> int:
        """Number of meta-episodes: tasks times repeats, task by task."""
        return len(self.task_ids) * self.config.repeats

    def _plan(self, rows: np.ndarray, number: int) -> Plan:
        """Draw start, the agent's own numbers and action noise of each episode, in this order."""
        env, repeats = self.driver.env, self.config.repeats
        draws = env.horizon if self.config.resample_latent == "step" else 1
        streams = [
            generator((*self.key, int(self.task_ids[row // repeats]), int(row % repeats), number))
            for row in rows
        ]
        initial = np.stack([env.initial_state(rng) for rng in streams])
        self.agent.begin_episode(rows, streams, draws)
        noise = np.empty((len(rows), env.horizon, env.action_dim), dtype=np.float32)
        for place, rng in enumerate(streams):
            rng.standard_normal(out=noise[place], dtype=np.float32)
        task = np.ascontiguousarray(self.tasks[rows // repeats], dtype=np.float64)
        return Plan(task, np.zeros((*noise.shape[:2], 0), np.float32), noise, initial, rows)

    def _episodes(
        self, rows: np.ndarray, number: int, *, explore: bool, learn: bool = True
    ) -> Episodes:
        """Let the agent play one episode of some meta-episodes, and learn of it unless told not."""
        agent = self.agent
        steps = learn and agent.needs_steps
        adaptive = Adaptive(
            functools.partial(agent.act, explore=explore), agent.observe if steps else None
        )
        plan = self._plan(rows, number)
        episodes = self.driver.run(adaptive, plan, rewards=not steps)
        if learn and not agent.needs_steps:
            agent.observe_episodes(rows, episodes)
        agent.end_episode(rows)
        return episodes

    def online(self) -> tuple[Arm, list[Context]]:
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

    def _adapt(self, transitions: int) -> tuple[_Record, _Record, list[Context]]:
        """Run the configured episodes of all, and further ones of those short of transitions."""
        cfg = self.config
        bags: list[list[Context]] = [[] for _ in range(self.num)]
        taken = np.zeros(self.num, dtype=np.int64)
        counted, stepped = _Record(self), _Record(self)
        self.agent.begin_task(self.num)
        for number in itertools.count():
            short = taken < transitions
            rows = np.flatnonzero(short | (number < cfg.episodes))
            if len(rows) == 0:
                break
            explore = number < cfg.exploration_episodes
            if not explore:
                self.agent.adapt(rows)
            note = _Note(self, rows)
            note.played(self._episodes(rows, number, explore=explore))
            if explore:
                for row, context in zip(rows, episode_contexts(note.episodes), strict=True):
                    bags[row].append(context)
            taken[rows] += note.episodes.length
            if number < cfg.episodes:
                counted.add(note, np.arange(len(rows)))
            if short.any():
                stepped.add(note, np.flatnonzero(short[rows]))
        return counted, stepped, [join_contexts(bag) for bag in bags]

    def unadapted(self, number: int) -> Arm:
        """Act once in an unknown task, and learn nothing: not within the episode either.

        Args:
            number: Number of the episode in the random streams.

        Returns:
            The arm, with one episode.
        """
        self.agent.begin_task(self.num)
        rows = np.arange(self.num)
        note = _Note(self, rows)
        note.played(self._episodes(rows, number, explore=False, learn=False))
        return _single(note)

    def given(self, contexts: Sequence[Context], number: int) -> Arm:
        """Act once after adapting to contexts.

        Args:
            contexts: One a meta-episode.
            number: Number of the episode in the random streams.

        Returns:
            The arm, with one episode.
        """
        self.agent.given(contexts)
        return self.once(number)

    def once(self, number: int) -> Arm:
        """Act once as the agent stands.

        Args:
            number: Number of the episode in the random streams.

        Returns:
            The arm, with one episode.
        """
        rows = np.arange(self.num)
        note = _Note(self, rows)
        note.played(self._episodes(rows, number, explore=False))
        return _single(note)

    def floor(self, controller: Controller, number: int) -> Arm:
        """Act by a controller that knows no task, such as doing nothing.

        Args:
            controller: What acts.
            number: Number of the episode in the random streams.

        Returns:
            The arm, with one episode.
        """
        rows = np.arange(self.num)
        self.agent.begin_task(self.num)
        note = _Note(self, rows)
        episodes = self.driver.run(controller, self._plan(rows, number), rewards=True)
        note.played(episodes, own=False)
        return _single(note)

    def resample(self, bags: Sequence[Context], purpose: int) -> list[Context]:
        """Draw contexts of the configured size.

        Offline and online contexts must have the same size before their posteriors are compared:
        the variance of a product of Gaussians shrinks as 1/n (smac-reference section 6.3). Where
        the order matters they are as many whole episodes as are explored online, none twice.

        Args:
            bags: One a meta-episode.
            purpose: Keeps the stream apart from others.

        Returns:
            One a meta-episode: rows drawn i.i.d. with replacement, or episodes.
        """
        out = []
        for row, bag in enumerate(bags):
            rng = generator((*self.key, purpose, row))
            if self.agent.needs_order:
                out.append(_draw_episodes(bag, self.config.exploration_episodes, rng))
            else:
                out.append(bag.take(rng.integers(0, len(bag), self.config.context_size)))
        return out


def _draw_episodes(bag: Context, num: int, rng: np.random.Generator) -> Context:
    """Draw whole episodes; all of them, in order, where there are no more than asked for."""
    numbers = np.unique(bag.episode)
    if len(numbers) > num:
        numbers = rng.choice(numbers, num, replace=False)
    parts = [bag.take(np.flatnonzero(bag.episode == number)) for number in numbers]
    zeroed = [dataclasses.replace(p, episode=np.zeros_like(p.episode)) for p in parts]
    return join_contexts(zeroed)


def episode_contexts(episodes: Episodes) -> list[Context]:
    """Lay each episode out as a context.

    Args:
        episodes: With true rewards.

    Returns:
        One an episode.
    """
    mask, after = flat_rows(episodes), next_observations(episodes)
    out = []
    for row, length in enumerate(episodes.length):
        valid = mask[row]
        t = np.arange(length)
        out.append(
            Context(
                episodes.obs[row][valid],
                episodes.action[row][valid],
                episodes.reward[row][valid],
                after[row][valid],
                (t == length - 1) & bool(episodes.terminated[row]),
                np.zeros(length, dtype=np.int64),
                t,
            )
        )
    return out


def do_nothing(obs: np.ndarray, latent: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Return zero actions; the floor that every return must be read against."""
    return np.zeros(noise.shape, dtype=np.float32)


def act_at_random(obs: np.ndarray, latent: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Return tanh of the noise, the law of an untrained policy."""
    action: np.ndarray = np.tanh(noise)
    return action


class _Note:
    """One episode of some meta-episodes, with what was believed when it began."""

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


def _single(note: _Note) -> Arm:
    record = _Record(note.test)
    record.add(note, np.arange(len(note.rows)))
    return record.arm()


class _Record:
    """Collects the episodes of one arm."""

    def __init__(self, test: MetaTest) -> None:
        self.test = test
        self.columns: dict[str, list[np.ndarray]] = {
            name: [] for name in ("episode_return", "episode_length", "episode_end", "measure")
        }
        self.last: dict[str, np.ndarray] = {}
        path = np.full((test.num, test.driver.env.horizon + 1, 2), np.nan, dtype=np.float32)
        self.first, self.path = path, path.copy()

    def add(self, note: _Note, chosen: np.ndarray) -> None:
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
