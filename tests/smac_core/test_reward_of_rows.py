"""Rewards of stored transitions, computed anew: they are the environment's own, for every task."""

from __future__ import annotations

import numpy as np
import pytest

from smac_core.adaptation import act_at_random
from smac_core.agent import prior
from smac_core.envs.ant_dir import AntDir
from smac_core.envs.ant_goal_ring import AntGoalRing
from smac_core.envs.cheetah_vel import CheetahVel
from smac_core.envs.definition import Environment
from smac_core.envs.episodes import BatchDriver, Episodes
from smac_core.envs.hopper_param import HopperParam
from smac_core.envs.humanoid_dir import HumanoidDir
from smac_core.envs.point_robot import PointRobot
from smac_core.envs.walker_param import WalkerParam
from smac_core.errors import ConfigError
from smac_core.planning import plan_episodes

Run = tuple[Environment, np.ndarray, Episodes]


def roll_out(env: Environment, tasks: np.ndarray) -> Episodes:
    """The same episodes whatever the tasks: they change neither starts, noise nor dynamics."""
    keys = [(7, 1, row) for row in range(len(tasks))]
    plan = plan_episodes(env, keys, tasks, prior(len(tasks), 2), resample_every_step=False)
    return BatchDriver(env).run(act_at_random, plan, rewards=True)


@pytest.fixture(scope="module", params=[PointRobot, CheetahVel, AntGoalRing])
def run(request: pytest.FixtureRequest) -> Run:
    env: Environment = request.param()
    tasks = env.sample_tasks(1337, 12, 0)
    return env, tasks, roll_out(env, tasks)


def relabelled(env: Environment, episodes: Episodes, tasks: np.ndarray) -> np.ndarray:
    """Rewards under other tasks, from what a store keeps of the episodes."""
    num, horizon = episodes.reward.shape
    after = np.concatenate([episodes.obs[:, 1:], episodes.final_obs[:, None]], axis=1)
    first = np.zeros((num, horizon), dtype=bool)
    first[:, 0] = True
    columns = (episodes.obs, episodes.action, after)
    flat = [column.reshape(num * horizon, -1) for column in columns]
    told = np.repeat(tasks, horizon, axis=0)
    return env.reward_of_rows(*flat, told, first.reshape(-1)).reshape(num, horizon)


def test_they_equal_the_stored_ones(run: Run) -> None:
    env, tasks, episodes = run
    found = relabelled(env, episodes, tasks)
    # A velocity is a difference of float32 positions over 0.05 s.
    np.testing.assert_allclose(found, episodes.reward, atol=1e-4)
    assert np.ptp(episodes.reward) > 0.1


def test_under_another_task_they_are_what_it_would_have_given(run: Run) -> None:
    env, tasks, episodes = run
    others = np.roll(tasks, 1, axis=0)
    again = roll_out(env, others)
    np.testing.assert_array_equal(again.obs, episodes.obs)
    np.testing.assert_allclose(relabelled(env, episodes, others), again.reward, atol=1e-4)
    assert np.abs(again.reward - episodes.reward).max() > 0.1


def test_the_cheetahs_observed_position_is_late_but_at_the_start() -> None:
    env = CheetahVel()
    tasks = env.sample_tasks(1337, 6, 0)
    episodes = roll_out(env, tasks)
    none = np.zeros(episodes.reward.size, dtype=bool)
    after = np.concatenate([episodes.obs[:, 1:], episodes.final_obs[:, None]], axis=1)
    flat = [c.reshape(none.size, -1) for c in (episodes.obs, episodes.action, after)]
    wrong = env.reward_of_rows(*flat, np.repeat(tasks, 200, axis=0), none).reshape(6, 200)
    error = np.abs(wrong - episodes.reward)
    assert error[:, 0].max() > 1e-3
    assert error[:, 1:].max() < 1e-4


@pytest.mark.parametrize("env", [AntDir(), HumanoidDir(), WalkerParam(), HopperParam()])
def test_where_rows_do_not_determine_them_that_is_said(env: Environment) -> None:
    assert env.not_in_rows is not None
    row = np.zeros((1, env.obs_dim))
    with pytest.raises(ConfigError, match=f"{env.env_id}.*{env.not_in_rows}.*borel-no-rr"):
        env.reward_of_rows(row, np.zeros((1, env.action_dim)), row, np.zeros((1, 1)), np.ones(1))
