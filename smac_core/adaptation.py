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

from smac_core.arms import Arm, Note, Record, single
from smac_core.config import AdaptationConfig
from smac_core.envs.episodes import Adaptive, BatchDriver, Controller, Episodes, Plan
from smac_core.meta_agent import Context, MetaAgent, episode_contexts, join_contexts
from smac_core.planning import Key, generator

# Numbers of the single-episode arms in the random streams, clear of the meta-episode's own.
PRIOR_EPISODE, MATCHED_EPISODE, OFFLINE_EPISODE = 10_001, 10_002, 10_003
NOTHING_EPISODE, RANDOM_EPISODE = 10_004, 10_005


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

    def _adapt(self, transitions: int) -> tuple[Record, Record, list[Context]]:
        """Run the configured episodes of all, and further ones of those short of transitions."""
        cfg = self.config
        bags: list[list[Context]] = [[] for _ in range(self.num)]
        taken = np.zeros(self.num, dtype=np.int64)
        counted, stepped = Record(self), Record(self)
        self.agent.begin_task(self.num)
        for number in itertools.count():
            short = taken < transitions
            rows = np.flatnonzero(short | (number < cfg.episodes))
            if len(rows) == 0:
                break
            explore = number < cfg.exploration_episodes
            if not explore:
                self.agent.adapt(rows)
            note = Note(self, rows)
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
        note = Note(self, rows)
        note.played(self._episodes(rows, number, explore=False, learn=False))
        return single(note)

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
        note = Note(self, rows)
        note.played(self._episodes(rows, number, explore=False))
        return single(note)

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
        note = Note(self, rows)
        episodes = self.driver.run(controller, self._plan(rows, number), rewards=True)
        note.played(episodes, own=False)
        return single(note)

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


def do_nothing(obs: np.ndarray, latent: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Return zero actions; the floor that every return must be read against."""
    return np.zeros(noise.shape, dtype=np.float32)


def act_at_random(obs: np.ndarray, latent: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Return tanh of the noise, the law of an untrained policy."""
    action: np.ndarray = np.tanh(noise)
    return action
