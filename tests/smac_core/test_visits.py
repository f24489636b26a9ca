"""Collection visits: which episodes use the prior, which the posterior, and of what context."""

from __future__ import annotations

import dataclasses

import numpy as np

from smac_core.agent import Agent, Posteriors
from smac_core.config import VisitConfig
from smac_core.envs.episodes import BatchDriver, Controller
from smac_core.planning import Key, generator
from smac_core.visits import POSTERIOR, PRIOR, VisitedEpisodes, run_visits
from tests.smac_core.stairs import Stairs, random_agent, stair_tasks

FAR = 100.0  # where this agent's posterior lies, so that latents tell where they came from
KEYS: list[Key] = [(0, 1, 7), (0, 1, 8)]
TASKS = stair_tasks((0, 0), (2, 0))  # episodes of six and of two steps
CONFIG = VisitConfig(prior_steps=7, posterior_steps=7, context_size=4)


class SpyAgent(Agent):
    """Remembers the latents it acts on and the contexts it infers from."""

    def watch(self) -> SpyAgent:
        object.__setattr__(self, "latents", [])
        object.__setattr__(self, "contexts", [])
        return self

    def stochastic(self) -> Controller:
        act = super().stochastic()

        def control(obs: np.ndarray, latent: np.ndarray, noise: np.ndarray) -> np.ndarray:
            self.latents.append(latent.copy())
            return act(obs, latent, noise)

        return control

    def infer(self, contexts) -> Posteriors:  # type: ignore[no-untyped-def]
        self.contexts.extend(contexts)
        shape = (len(contexts), self.latent_dim)
        return Posteriors(np.full(shape, FAR, np.float32), np.full(shape, 1e-4, np.float32))


def spy() -> SpyAgent:
    fields = {f.name: getattr(random_agent(2, 1), f.name) for f in dataclasses.fields(Agent)}
    return SpyAgent(**fields).watch()


def visit(
    env: Stairs, config: VisitConfig = CONFIG, *, rewards: bool = False
) -> tuple[VisitedEpisodes, SpyAgent, list[tuple[int, Key]], list[VisitedEpisodes]]:
    asked: list[tuple[int, Key]] = []
    blocks: list[VisitedEpisodes] = []

    def context_of(number: int, key: Key) -> np.ndarray:
        asked.append((number, key))
        return np.full((config.context_size, 4), number, np.float32)

    agent = spy()
    result = run_visits(
        BatchDriver(env),
        agent,
        config,
        TASKS,
        KEYS,
        context_of,
        rewards=rewards,
        on_prior_block=blocks.append,
    )
    return result, agent, asked, blocks


def test_blocks_run_until_their_steps_are_reached(stairs: Stairs) -> None:
    result, _, _, _ = visit(stairs)
    assert result.visit.tolist() == [0] * 4 + [1] * 8
    # Two episodes of six steps and four of two reach seven; the posterior block starts as prior.
    assert result.source.tolist() == [PRIOR] * 3 + [POSTERIOR] + [PRIOR] * 5 + [POSTERIOR] * 3
    assert result.episodes.length.tolist() == [6] * 4 + [2] * 8
    assert result.episodes.terminated.tolist() == [False] * 4 + [True] * 8


def test_the_released_counts_without_early_ends(stairs: Stairs) -> None:
    # smac-reference section 4, point 2: 400 + 600 steps of 200 are 2 + 1 prior and 2 posterior.
    result, _, _, _ = visit(stairs, VisitConfig(prior_steps=12, posterior_steps=18))
    first = result.visit == 0
    assert result.source[first].tolist() == [PRIOR] * 3 + [POSTERIOR] * 2


def test_contexts_are_asked_for_each_posterior_episode_alone(stairs: Stairs) -> None:
    _, agent, asked, _ = visit(stairs)
    assert sorted(asked) == [
        (0, (*KEYS[0], 1_000_001)),
        (1, (*KEYS[1], 1_000_001)),
        (1, (*KEYS[1], 1_000_002)),
        (1, (*KEYS[1], 1_000_003)),
    ]
    assert sorted(int(c[0, 0]) for c in agent.contexts) == [0, 1, 1, 1]
    assert all(c.shape == (4, 4) for c in agent.contexts)


def test_posterior_episodes_act_on_the_posterior(stairs: Stairs) -> None:
    result, agent, _, _ = visit(stairs)
    waves = [np.abs(latent).max(axis=1) > FAR / 2 for latent in agent.latents]
    informed = sum(int(w.sum()) for w in waves)
    # The policy acts only where an episode goes on.
    assert informed == result.episodes.length[result.source == POSTERIOR].sum()
    prior_steps = [w for w in waves if not w.any()]
    assert len(prior_steps) == len(waves) - 6 - 2 * 2


def test_episodes_are_numbered_through_both_blocks(stairs: Stairs) -> None:
    result, _, _, _ = visit(stairs)
    for number, row in enumerate(np.flatnonzero(result.visit == 1)):
        start = stairs.initial_state(generator((*KEYS[1], number)))
        np.testing.assert_allclose(result.episodes.obs[row, 0, 0], start[0], rtol=1e-6)


def test_the_prior_block_is_handed_over_before_any_posterior(stairs: Stairs) -> None:
    _, _, _, blocks = visit(stairs)
    assert len(blocks) == 1
    assert blocks[0].visit.tolist() == [0, 0, 1, 1, 1, 1]
    assert (blocks[0].source == PRIOR).all()


def test_latents_change_every_step_or_stay(stairs: Stairs) -> None:
    _, every, _, _ = visit(stairs)
    assert not np.array_equal(every.latents[0], every.latents[1])
    once_config = dataclasses.replace(CONFIG, resample_latent="episode")
    _, once, _, _ = visit(stairs, once_config)
    # Five steps on, the first of both episodes goes on alone.
    assert np.array_equal(once.latents[0][:1], once.latents[5])
    assert not np.array_equal(once.latents[5], once.latents[6])


def test_no_true_reward_is_computed_in_the_self_supervised_phase(stairs: Stairs) -> None:
    result, _, _, _ = visit(stairs)
    assert stairs.reward_calls == 0
    assert np.isnan(result.episodes.reward).all()
    result, _, _, _ = visit(stairs, rewards=True)
    assert np.isfinite(result.episodes.returns).all()
    assert stairs.reward_calls > 0


def test_a_visit_does_not_depend_on_the_others(stairs: Stairs) -> None:
    result, _, _, _ = visit(stairs)

    def context_of(number: int, key: Key) -> np.ndarray:
        return np.zeros((4, 4), np.float32)

    alone = run_visits(
        BatchDriver(stairs), spy(), CONFIG, TASKS[1:], KEYS[1:], context_of, rewards=False
    )
    rows = np.flatnonzero(result.visit == 1)
    np.testing.assert_array_equal(result.episodes.obs[rows], alone.episodes.obs)
    np.testing.assert_array_equal(result.episodes.action[rows], alone.episodes.action)


def test_either_block_may_be_empty(stairs: Stairs) -> None:
    result, _, asked, _ = visit(stairs, dataclasses.replace(CONFIG, posterior_steps=0))
    assert (result.source == PRIOR).all()
    assert asked == []
    result, _, _, blocks = visit(stairs, dataclasses.replace(CONFIG, prior_steps=0))
    assert result.source[result.visit == 0].tolist() == [PRIOR, POSTERIOR]
    assert blocks == []
