"""The walking domains against plain MuJoCo: observations, rewards, endings, task lists."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import mujoco
import numpy as np
import pytest

from smac_core.adaptation import act_at_random, do_nothing
from smac_core.agent import prior
from smac_core.envs.ant_dir import AntDir
from smac_core.envs.definition import Environment
from smac_core.envs.episodes import BatchDriver, Controller, Episodes, Plan
from smac_core.errors import ConfigError
from smac_core.planning import plan_episodes
from tests.smac_core.plain_mujoco import Plain, PlainAnt, PlainProgressAnt


def act_gently(obs: np.ndarray, latent: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Small actions, under which a walker stays up longer."""
    action: np.ndarray = np.tanh(0.1 * noise)
    return action


@dataclass(frozen=True)
class Case:
    """A domain, the oracle, and what acts: some episodes fall, some last."""

    make: Callable[[], Environment]
    plain: Callable[[np.ndarray], Plain]
    controller: Controller = act_at_random
    falls: bool = True


CASES = {
    "ant-dir": Case(AntDir, PlainAnt),
    "ant-dir-progress": Case(lambda: AntDir(reward="progress"), PlainProgressAnt, falls=False),
}
NUM = 24


def make_plan(env: Environment, num: int = NUM, seed: int = 0) -> Plan:
    keys = [(seed, 3, row) for row in range(num)]
    tasks = env.sample_tasks(1337, num, 0)
    return plan_episodes(env, keys, tasks, prior(num, 2), resample_every_step=False)


@pytest.fixture(scope="module", params=CASES)
def ran(request: pytest.FixtureRequest) -> tuple[Case, Environment, Plan, Episodes]:
    case = CASES[request.param]
    env = case.make()
    plan = make_plan(env)
    return case, env, plan, BatchDriver(env, batch=7).run(case.controller, plan, rewards=True)


def chosen_rows(episodes: Episodes) -> list[int]:
    """The shortest, the longest and the first episode."""
    return sorted({int(np.argmin(episodes.length)), int(np.argmax(episodes.length)), 0})


def test_observations_rewards_and_endings_equal_plain_mujoco(
    ran: tuple[Case, Environment, Plan, Episodes],
) -> None:
    case, _, plan, episodes = ran
    for row in chosen_rows(episodes):
        plain = case.plain(plan.task[row])
        obs = plain.reset(plan.initial[row])
        for step in range(int(episodes.length[row])):
            np.testing.assert_array_equal(episodes.obs[row, step], obs.astype(np.float32))
            obs, reward, terminal = plain.step(episodes.action[row, step])
            assert episodes.reward[row, step] == pytest.approx(reward, rel=1e-5, abs=1e-5)
            last = step == episodes.length[row] - 1
            assert terminal == (last and bool(episodes.terminated[row]))
        np.testing.assert_array_equal(episodes.final_obs[row], obs.astype(np.float32))


def test_a_fall_is_termination_and_the_time_limit_is_not(
    ran: tuple[Case, Environment, Plan, Episodes],
) -> None:
    case, env, _, episodes = ran
    assert episodes.ok.all()
    short = episodes.length < env.horizon
    assert short.any() == case.falls
    assert not short.all()
    assert episodes.terminated[short].all()
    # Whoever reaches the limit has not fallen, unless in the very last step.
    assert episodes.terminated[~short].mean() < 0.5


# ---- ant-dir -------------------------------------------------------------------------------------


def test_the_ants_directions_are_the_published_ones_bit_for_bit() -> None:
    published = np.random.RandomState(1337).uniform(0.0, 360.0, 120)
    assert AntDir().sample_tasks(1337, 100, 20)[:, 0].tolist() == published.tolist()
    few = AntDir().sample_tasks(1337, 3, 2)[:, 0]
    assert few.tolist() == published[:3].tolist() + published[100:102].tolist()


def test_the_ants_model_is_the_authors() -> None:
    model = AntDir().load_model()
    assert (model.opt.timestep, model.opt.integrator) == (0.01, mujoco.mjtIntegrator.mjINT_RK4)
    assert (model.nq, model.nv, model.nu, model.nbody) == (15, 14, 8, 14)
    assert model.actuator_gear[:, 0].tolist() == [150.0] * 8
    assert model.actuator_ctrlrange.tolist() == [[-1.0, 1.0]] * 8
    assert model.geom_friction.tolist() == [[1.0, 0.5, 0.5]] * 14
    # Straight ankles, outside their range; not the file's init_qpos.
    np.testing.assert_array_equal(model.qpos0, [0, 0, 0.75, 1, 0, 0, 0, *[0] * 8])


def test_the_ants_reward_by_hand() -> None:
    env = AntDir()
    before, after = np.zeros((3, 115)), np.zeros((3, 115))
    after[:, 29], after[:, 30] = 0.1, 0.05  # 2 m/s along x, 1 m/s along y
    after[:, 31], after[:, 40] = 7.0, -0.5  # contact forces count up to 1 in size
    action = np.zeros((3, 8), np.float32)
    action[:, :2] = 0.5, -1.0
    task = np.array([[0.0], [90.0], [225.0]])
    rest = 1.0 - 0.5 * 1.25 - 5e-4 * 1.25
    expected = np.array([2.0, 1.0, -3.0 / np.sqrt(2.0)]) + rest
    np.testing.assert_allclose(env.reward(before, action, after, task), expected)
    progress = AntDir(reward="progress").reward(before, action, after, task)
    np.testing.assert_allclose(progress, expected - rest)
    with pytest.raises(ConfigError, match="expected pearl or progress, found speed"):
        AntDir(reward="speed")


def test_the_ant_falls_below_and_above() -> None:
    state = np.zeros((4, 115))
    state[:, 2] = 0.19, 0.2, 1.0, 1.01
    assert AntDir().terminated(state).tolist() == [True, False, False, True]
    assert not AntDir(reward="progress").terminated(state).any()


def test_an_untrained_ant_lasts_as_long_as_measured() -> None:
    # smac-reference section 7: episodes mean about 77 steps, 11 % reach 200, of 100 episodes.
    env = AntDir()
    episodes = BatchDriver(env).run(act_at_random, make_plan(env, 100, seed=1), rewards=True)
    assert episodes.length.mean() == pytest.approx(77.0, abs=18.0)  # its standard error is 5
    assert (episodes.length == 200).mean() == pytest.approx(0.11, abs=0.1)


def test_a_standing_ant_earns_one_a_step() -> None:
    env = AntDir()
    episodes = BatchDriver(env).run(do_nothing, make_plan(env, 8), rewards=True)
    assert episodes.returns == pytest.approx(200.0, abs=20.0)
