"""Streams of random numbers: named by keys, apart from each other, the same however batched."""

from __future__ import annotations

import numpy as np

from smac_core import planning
from smac_core.agent import Posteriors, prior
from smac_core.envs.episodes import Plan
from smac_core.planning import generator, plan_episodes
from tests.smac_core.stairs import Stairs, stair_tasks

LATENT = 3


def make_plan(keys: list[tuple[int, ...]], *, every_step: bool = False) -> Plan:
    tasks = stair_tasks(*[(0, 0)] * len(keys))
    return plan_episodes(
        Stairs(), keys, tasks, prior(len(keys), LATENT), resample_every_step=every_step
    )


def test_equal_keys_give_equal_streams_and_others_do_not() -> None:
    keys = [(0, 1, 2), (0, 1, 3), (0, 2, 2), (1, 1, 2), (0, 1), (0, 1, 2, 4), (0, 1, 2, 4, 0)]
    draws = [generator(key).standard_normal(8) for key in keys]
    for i, key in enumerate(keys):
        assert np.array_equal(draws[i], generator(key).standard_normal(8))
        assert all(not np.array_equal(draws[i], other) for other in draws[:i])


def test_purposes_of_the_stages_differ() -> None:
    names = (
        *("COLLECT", "ROLLOUT", "EVALUATE_TEST", "EVALUATE_TRAIN", "LABEL"),
        *("EVALUATE_MATCHED", "EVALUATE_OFFLINE"),
    )
    assert len({getattr(planning, name) for name in names}) == len(names)


def test_an_episode_does_not_depend_on_its_neighbours() -> None:
    together = make_plan([(0, 5), (0, 6), (0, 7)], every_step=True)
    alone = make_plan([(0, 6)], every_step=True)
    for name in ("latent", "noise", "initial", "task"):
        np.testing.assert_array_equal(getattr(together, name)[1], getattr(alone, name)[0])


def test_the_start_is_the_first_draw_of_an_episode() -> None:
    plan = make_plan([(4, 2)])
    expected = Stairs().initial_state(generator((4, 2)))
    np.testing.assert_array_equal(plan.initial[0], expected)


def test_latents_are_drawn_once_or_at_every_step() -> None:
    once, every = make_plan([(0, 1)]), make_plan([(0, 1)], every_step=True)
    horizon = Stairs.horizon
    assert once.latent.shape == every.latent.shape == (1, horizon, LATENT)
    assert once.noise.shape == (1, horizon, 1)
    assert (once.latent == once.latent[:, :1]).all()
    assert len(np.unique(every.latent[0, :, 0])) == horizon
    np.testing.assert_array_equal(once.latent[0, 0], every.latent[0, 0])


def test_latents_follow_the_posterior() -> None:
    posterior = Posteriors(
        np.array([[1.0, -2.0], [0.0, 5.0]], np.float32),
        np.array([[4.0, 0.25], [1e-7, 1.0]], np.float32),
    )
    keys = [(0, 1), (0, 2)]
    plan = plan_episodes(
        Stairs(), keys, stair_tasks((0, 0), (0, 0)), posterior, resample_every_step=True
    )
    for row, key in enumerate(keys):
        rng = generator(key)
        Stairs().initial_state(rng)
        noise = rng.standard_normal((Stairs.horizon, 2), dtype=np.float32)
        expected = posterior.mean[row] + np.sqrt(posterior.variance[row]) * noise
        np.testing.assert_allclose(plan.latent[row], expected, rtol=1e-6)
