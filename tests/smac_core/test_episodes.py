"""The batch driver: endings, divergence, refusals, and independence of batches and threads."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from smac_core.adaptation import act_at_random
from smac_core.agent import prior
from smac_core.envs.ant_dir import AntDir
from smac_core.envs.ant_goal_ring import AntGoalRing
from smac_core.envs.cheetah_vel import CheetahVel
from smac_core.envs.definition import Environment
from smac_core.envs.episodes import BatchDriver, Episodes, Plan, concatenate
from smac_core.envs.hopper_param import HopperParam
from smac_core.envs.humanoid_dir import HumanoidDir
from smac_core.envs.point_robot import PointRobot
from smac_core.envs.sawyer_door import SawyerDoor
from smac_core.envs.sawyer_push import SawyerPush
from smac_core.envs.walker_param import WalkerParam
from smac_core.errors import SimulationError
from smac_core.planning import flat_rows, next_observations, plan_episodes
from tests.smac_core.stairs import Stairs, random_agent, stair_tasks

LATENT = 3


def climb(obs: np.ndarray, latent: np.ndarray, noise: np.ndarray) -> np.ndarray:
    return np.ones(noise.shape, dtype=np.float32)


def make_plan(env: Environment, tasks: np.ndarray, seed: int = 0) -> Plan:
    keys = [(seed, 1, row) for row in range(len(tasks))]
    return plan_episodes(env, keys, tasks, prior(len(tasks), LATENT), resample_every_step=True)


def run_stairs(env: Stairs, *tasks: tuple[float, float], rewards: bool = True) -> Episodes:
    return BatchDriver(env).run(climb, make_plan(env, stair_tasks(*tasks)), rewards=rewards)


def equal(one: Episodes, other: Episodes) -> bool:
    return all(
        np.array_equal(
            getattr(one, name), getattr(other, name), equal_nan=name in ("reward", "path")
        )
        for name in Episodes.__dataclass_fields__
    )


def test_a_whole_episode_by_hand(stairs: Stairs) -> None:
    plan = make_plan(stairs, stair_tasks((0, 0)))
    episodes = BatchDriver(stairs).run(climb, plan, rewards=True)
    start = plan.initial[0, 0]
    assert episodes.length.tolist() == [6]
    np.testing.assert_allclose(episodes.obs[0, :, 0], start + np.arange(6), rtol=1e-6)
    np.testing.assert_array_equal(episodes.obs[0, :, 1], np.arange(6))
    np.testing.assert_allclose(episodes.final_obs[0], [start + 6, 6], rtol=1e-6)
    assert episodes.reward[0].tolist() == [1, 2, 3, 4, 5, 6]
    assert episodes.returns.tolist() == [21.0]
    np.testing.assert_allclose(episodes.path[0, :, 0], start + np.arange(7), rtol=1e-6)
    assert not episodes.terminated[0]  # the horizon is no terminal state
    assert episodes.ok[0]


def test_each_episode_ends_by_itself(stairs: Stairs) -> None:
    episodes = run_stairs(stairs, (0, 0), (2, 0), (1, 0), (6, 0))
    assert episodes.length.tolist() == [6, 2, 1, 6]
    assert episodes.terminated.tolist() == [False, True, True, True]
    assert episodes.ok.all()
    assert episodes.final_obs[:, 1].tolist() == [6, 2, 1, 6]
    assert episodes.returns.tolist() == [21.0, 43.0, 11.0, 381.0]
    # Rows after the end were never written.
    assert not episodes.obs[1, 2:].any()
    assert np.isnan(episodes.reward[1, 2:]).all()
    assert np.isnan(episodes.path[1, 3:]).all()
    assert np.isfinite(episodes.path[1, :3]).all()


def test_a_diverged_episode_is_cut_before_the_fault(stairs: Stairs) -> None:
    episodes = run_stairs(stairs, (0, 0), (0, 3), (5, 0))
    assert episodes.ok.tolist() == [True, False, True]
    assert episodes.length.tolist() == [6, 2, 5]
    assert not episodes.terminated[1]
    for name in ("obs", "action", "final_obs"):
        assert np.isfinite(getattr(episodes, name)).all()
    assert np.isfinite(episodes.reward[1, :2]).all()
    assert episodes.final_obs[1, 1] == 2


def test_neighbours_of_a_diverged_episode_are_untouched(stairs: Stairs) -> None:
    tasks = stair_tasks((0, 0), (0, 3), (5, 0))
    together = BatchDriver(stairs).run(climb, make_plan(stairs, tasks), rewards=True)
    for row in (0, 2):
        plan = make_plan(stairs, tasks).part(slice(row, row + 1))
        alone = BatchDriver(stairs).run(climb, plan, rewards=True)
        assert equal(together.select(np.array([row])), alone)


def test_an_observation_that_is_not_finite_cuts_the_episode_too() -> None:
    episodes = run_stairs(Stairs(bad="observation"), (0, 0), (2, 0))
    assert episodes.ok.tolist() == [False, True]
    assert episodes.length.tolist() == [2, 2]
    assert np.isfinite(episodes.final_obs).all()


def test_rewards_are_never_computed_unless_asked_for(stairs: Stairs) -> None:
    episodes = run_stairs(stairs, (0, 0), (2, 0), rewards=False)
    assert stairs.reward_calls == 0
    assert np.isnan(episodes.reward).all()
    with_rewards = run_stairs(stairs, (0, 0), (2, 0))
    assert stairs.reward_calls == 1  # of all steps at once
    np.testing.assert_array_equal(episodes.obs, with_rewards.obs)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("start", "observation is not finite at the start of an episode: in stairs, simulator 0"),
        ("reward", "reward is not finite: in stairs, step 0"),
    ],
)
def test_faulty_definitions_are_refused(bad: str, message: str) -> None:
    with pytest.raises(SimulationError, match=message):
        run_stairs(Stairs(bad=bad), (0, 0))


def test_divergence_at_the_first_step_is_refused(stairs: Stairs) -> None:
    with pytest.raises(SimulationError, match=r"diverged at the first step: in stairs, episode 1"):
        run_stairs(stairs, (0, 0), (0, 1))


def test_an_action_that_is_not_finite_is_refused(stairs: Stairs) -> None:
    def broken(obs: np.ndarray, latent: np.ndarray, noise: np.ndarray) -> np.ndarray:
        return np.where(obs[:, 1:] == 2, np.nan, 0.0).astype(np.float32)

    plan = make_plan(stairs, stair_tasks((0, 0)))
    with pytest.raises(SimulationError, match="not finite or outside the space: in stairs, step 2"):
        BatchDriver(stairs).run(broken, plan, rewards=True)
    with pytest.raises(SimulationError, match=r"stairs, step 0, expected numbers in \[-1, 1\]"):
        BatchDriver(stairs).run(lambda *x: 1.5 * climb(*x), plan, rewards=True)
    # Nobody asks what the policy would do after the end.
    ended = make_plan(stairs, stair_tasks((1, 0)))
    assert BatchDriver(stairs).run(broken, ended, rewards=True).length.tolist() == [1]


def test_next_observations_end_with_the_final_one(stairs: Stairs) -> None:
    episodes = run_stairs(stairs, (0, 0), (2, 0))
    after, mask = next_observations(episodes), flat_rows(episodes)
    assert mask.sum(axis=1).tolist() == [6, 2]
    np.testing.assert_array_equal(after[0, :-1], episodes.obs[0, 1:])
    np.testing.assert_array_equal(after[0, -1], episodes.final_obs[0])
    np.testing.assert_array_equal(after[1, 0], episodes.obs[1, 1])
    np.testing.assert_array_equal(after[1, 1], episodes.final_obs[1])
    steps = episodes.obs[mask][:, 1]
    np.testing.assert_array_equal(after[mask][:, 1], steps + 1)


def test_runs_are_joined_and_picked_in_order(stairs: Stairs) -> None:
    one, two = run_stairs(stairs, (0, 0), (2, 0)), run_stairs(stairs, (3, 0))
    both = concatenate([one, two])
    assert both.length.tolist() == [6, 2, 3]
    assert both.select(np.array([2, 0])).length.tolist() == [3, 6]


CASES: dict[str, tuple[Callable[[], Environment], int]] = {
    "stairs": (Stairs, 11),
    "point-robot": (PointRobot, 11),
    "cheetah-vel": (CheetahVel, 5),
    "ant-dir": (AntDir, 5),
    "ant-goal-ring": (AntGoalRing, 5),
    "humanoid-dir": (HumanoidDir, 5),
    "sawyer-push": (SawyerPush, 5),
    "sawyer-door": (SawyerDoor, 5),
    "walker-param": (WalkerParam, 5),
    "hopper-param": (HopperParam, 5),
}


@pytest.mark.parametrize("name", CASES)
def test_no_batch_split_and_no_thread_changes_a_bit(name: str) -> None:
    make, num = CASES[name]
    env = make()
    tasks = env.sample_tasks(3, num, 0)
    agent = random_agent(env.obs_dim, env.action_dim)
    for controller in (agent.stochastic(), act_at_random):
        plan = make_plan(env, tasks)
        whole = BatchDriver(env).run(controller, plan, rewards=True)
        for batch, threads in ((1, 1), (2, 2), (4, 1), (num - 1, 2)):
            driver = BatchDriver(make(), threads=threads, batch=batch)
            assert equal(whole, driver.run(controller, plan, rewards=True)), (batch, threads)


def test_a_driver_does_not_keep_simulators_for_ever(stairs: Stairs) -> None:
    driver = BatchDriver(stairs)
    for num in (1, 2, 3, 4, 5, 6, 1, 7, 8):
        driver.run(climb, make_plan(stairs, stair_tasks(*[(0, 0)] * num)), rewards=False)
    assert sorted(driver._pools[0]) == [1, 4, 5, 6, 7, 8]


def test_the_policy_acts_for_running_episodes_alone(stairs: Stairs) -> None:
    asked: list[int] = []

    def watch(obs: np.ndarray, latent: np.ndarray, noise: np.ndarray) -> np.ndarray:
        assert len(obs) == len(latent) == len(noise)
        asked.append(len(obs))
        return climb(obs, latent, noise)

    plan = make_plan(stairs, stair_tasks((0, 0), (2, 0), (0, 3), (1, 0)))
    BatchDriver(stairs).run(watch, plan, rewards=False)
    assert asked == [4, 3, 2, 1, 1, 1]


def test_a_driver_starts_each_plan_afresh() -> None:
    env = CheetahVel()
    driver = BatchDriver(env)
    plan = make_plan(env, env.sample_tasks(0, 2, 0))
    first = driver.run(act_at_random, plan, rewards=True)
    driver.run(climb, make_plan(env, env.sample_tasks(0, 2, 0), seed=5), rewards=False)
    assert equal(first, driver.run(act_at_random, plan, rewards=True))
