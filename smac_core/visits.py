"""Collection visits: prior episodes first, then episodes under the posterior of a growing context.

Source: smac-reference sections 4 and 5.2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from smac_core.agent import Agent, Posteriors, prior
from smac_core.config import VisitConfig
from smac_core.envs.episodes import BatchDriver, Episodes, concatenate
from smac_core.planning import Key, plan_episodes

PRIOR, POSTERIOR = 1, 2  # codes of pipeline.store.EPISODE_SOURCES

ContextOf = Callable[[int, Key], np.ndarray]
"""Draws the posterior's context ``[K, features]`` for a visit, from the stream named by a key."""


@dataclass(frozen=True)
class VisitedEpisodes:
    """Episodes of several visits, ordered by visit, then by time.

    Args:
        episodes: What happened.
        visit: ``[E]`` int64, which visit an episode belongs to.
        source: ``[E]`` int8 codes: prior or posterior.
    """

    episodes: Episodes
    visit: np.ndarray
    source: np.ndarray


def run_visits(
    driver: BatchDriver,
    agent: Agent,
    config: VisitConfig,
    tasks: np.ndarray,
    keys: Sequence[Key],
    context_of: ContextOf,
    *,
    rewards: bool,
    on_prior_block: Callable[[VisitedEpisodes], None] | None = None,
) -> VisitedEpisodes:
    """Visit tasks side by side: prior episodes up to a step count, then posterior ones.

    The first episode of the posterior block still uses the prior, as in the released code.

    Args:
        driver: The simulators.
        agent: Acts stochastically.
        config: Step counts, latent resampling.
        tasks: ``[V, task_dim]`` parameters, one row a visit.
        keys: One key a visit; episodes append their number.
        context_of: The context of the posterior block.
        rewards: Whether the true reward is computed at all.
        on_prior_block: Called with the prior block before the posterior block begins.

    Returns:
        All episodes.
    """
    num = len(tasks)
    state = _Waves(driver, agent, config, tasks, keys, rewards)
    state.until(config.prior_steps, lambda visit, count: None)
    if on_prior_block is not None and config.prior_steps > 0:
        on_prior_block(state.collected(num))

    def posterior_of(visit: int, count: int) -> np.ndarray | None:
        return None if count == 0 else context_of(visit, (*keys[visit], 1_000_000 + count))

    state.until(config.posterior_steps, posterior_of)
    return state.collected(num)


class _Waves:
    """Runs one episode of every unfinished visit at a time."""

    def __init__(
        self,
        driver: BatchDriver,
        agent: Agent,
        config: VisitConfig,
        tasks: np.ndarray,
        keys: Sequence[Key],
        rewards: bool,
    ) -> None:
        self.driver, self.agent, self.config = driver, agent, config
        self.tasks, self.keys, self.rewards = tasks, keys, rewards
        self.parts: list[Episodes] = []
        self.visit: list[np.ndarray] = []
        self.source: list[np.ndarray] = []
        self.numbers = np.zeros(len(tasks), dtype=np.int64)

    def until(self, steps: int, context: Callable[[int, int], np.ndarray | None]) -> None:
        """Run waves until every visit has so many further steps."""
        taken = np.zeros(len(self.tasks), dtype=np.int64)
        count = 0
        while (taken < steps).any():
            visits = np.flatnonzero(taken < steps)
            contexts = [context(int(v), count) for v in visits]
            informed = np.array([c is not None for c in contexts])
            posterior = self._posterior(contexts, informed)
            keys = [(*self.keys[int(v)], int(self.numbers[v])) for v in visits]
            plan = plan_episodes(
                self.driver.env,
                keys,
                self.tasks[visits],
                posterior,
                resample_every_step=self.config.resample_latent == "step",
            )
            part = self.driver.run(self.agent.stochastic(), plan, rewards=self.rewards)
            self.parts.append(part)
            self.visit.append(visits)
            self.source.append(np.where(informed, POSTERIOR, PRIOR).astype(np.int8))
            self.numbers[visits] += 1
            taken[visits] += part.length
            count += 1

    def _posterior(self, contexts: Sequence[np.ndarray | None], informed: np.ndarray) -> Posteriors:
        latents = prior(len(contexts), self.agent.latent_dim)
        if informed.any():
            inferred = self.agent.infer([c for c in contexts if c is not None])
            latents.mean[informed] = inferred.mean
            latents.variance[informed] = inferred.variance
        return latents

    def collected(self, num: int) -> VisitedEpisodes:
        """Return everything so far, ordered by visit, then by time."""
        visit = np.concatenate(self.visit)
        order = np.argsort(visit, kind="stable")
        episodes = concatenate(self.parts).select(order)
        return VisitedEpisodes(episodes, visit[order], np.concatenate(self.source)[order])
