"""The point-robot, whose every number can be worked out by hand."""

from __future__ import annotations

import numpy as np

from smac_core.adaptation import do_nothing
from smac_core.agent import Posteriors
from smac_core.envs.episodes import BatchDriver, Episodes
from smac_core.envs.point_robot import PointRobot
from smac_core.planning import plan_episodes

ENV = PointRobot()


def run_scripted(noise_scale: float, goals: np.ndarray) -> Episodes:
    def control(obs: np.ndarray, latent: np.ndarray, noise: np.ndarray) -> np.ndarray:
        return ENV.scripted_action(obs, latent, noise_scale * noise).astype(np.float32)

    told = Posteriors(goals.astype(np.float32), np.zeros(goals.shape, np.float32))
    keys = [(0, 0, row) for row in range(len(goals))]
    plan = plan_episodes(ENV, keys, goals, told, resample_every_step=False)
    return BatchDriver(ENV).run(control, plan, rewards=True)


def test_goals_lie_on_the_upper_half_circle() -> None:
    goals = ENV.sample_tasks(0, 400, 100)
    np.testing.assert_allclose(np.hypot(*goals.T), 1.0)
    assert (goals[:, 1] >= 0).all()
    angles = np.arctan2(goals[:, 1], goals[:, 0])
    counts, _ = np.histogram(angles, bins=5, range=(0, np.pi))
    assert (abs(counts - 100) < 5 * np.sqrt(80)).all()


def test_steps_and_rewards_by_hand() -> None:
    physics = ENV.make_physics(2)
    goals = np.array([[0.0, 1.0], [1.0, 0.0]])
    physics.reset(np.zeros((2, 2)), goals)
    action = np.array([[0.5, 7.0], [-1.0, 0.25]], np.float32)  # 7 counts as 1
    physics.step(action, np.array([True, True]))
    np.testing.assert_allclose(physics.state, [[0.05, 0.1], [-0.1, 0.025]])
    reward = ENV.reward(physics.previous, action, physics.state, goals)
    expected = [-np.hypot(0.05, 0.9), -np.hypot(1.1, 0.025)]
    np.testing.assert_allclose(reward, expected)
    physics.step(action, np.array([False, True]))
    np.testing.assert_allclose(physics.state, [[0.05, 0.1], [-0.2, 0.05]])


def test_doing_nothing_returns_minus_the_horizon() -> None:
    goals = ENV.sample_tasks(1, 5, 0)
    told = Posteriors(goals.astype(np.float32), np.zeros(goals.shape, np.float32))
    plan = plan_episodes(ENV, [(0, i) for i in range(5)], goals, told, resample_every_step=False)
    episodes = BatchDriver(ENV).run(do_nothing, plan, rewards=True)
    np.testing.assert_allclose(episodes.returns, -20.0, rtol=1e-6)


def test_the_scripted_policy_reaches_the_goal_on_the_shortest_way() -> None:
    goals = np.array([[0.0, 1.0], [1.0, 0.0], [-1.0, 0.0]])
    episodes = run_scripted(0.0, goals)
    # Distances after each step: 0.9, 0.8, …, 0.1, 0, 0, …
    np.testing.assert_allclose(episodes.returns, -4.5, atol=1e-4)
    np.testing.assert_allclose(episodes.final_obs, goals, atol=1e-6)
    found = ENV.measure(episodes.path, episodes.length, goals)
    assert list(ENV.measure_units) == ["goal_distance", "distance"]
    np.testing.assert_allclose(found, np.tile([0.0, 1.0], (len(goals), 1)), atol=1e-6)
    noisy = run_scripted(1.0, goals)
    assert (noisy.returns < -5.0).all()
    assert np.abs(noisy.action).max() <= 1.0
