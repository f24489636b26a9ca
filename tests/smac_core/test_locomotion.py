"""The walking domains against plain MuJoCo: observations, rewards, endings, task lists."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import mujoco
import numpy as np
import pytest

from smac_core.adaptation import act_at_random, do_nothing
from smac_core.envs.ant_dir import AntDir
from smac_core.envs.ant_goal_ring import AntGoalRing
from smac_core.envs.definition import Environment
from smac_core.envs.dynamics_param import DynamicsParam
from smac_core.envs.episodes import BatchDriver, Controller, Episodes, Plan
from smac_core.envs.gym_driver import SmacEnv
from smac_core.envs.hopper_param import HopperParam
from smac_core.envs.humanoid_dir import HumanoidDir
from smac_core.envs.walker_param import WalkerParam
from smac_core.errors import ConfigError, TaskError
from tests.smac_core.plain_mujoco import (
    Plain,
    PlainAnt,
    PlainGoalAnt,
    PlainHopper,
    PlainHumanoid,
    PlainProgressAnt,
    PlainSparseGoalAnt,
    PlainWalker,
)
from tests.smac_core.played import make_plan, sabotaged


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
    "ant-goal-ring": Case(AntGoalRing, PlainGoalAnt, falls=False),
    "ant-goal-ring-sparse": Case(
        lambda: AntGoalRing(reward="sparse"), PlainSparseGoalAnt, falls=False
    ),
    "humanoid-dir": Case(HumanoidDir, PlainHumanoid),
    "walker-param": Case(WalkerParam, PlainWalker, act_gently),
    "hopper-param": Case(HopperParam, PlainHopper, act_gently),
}
NUM = 24


@pytest.fixture(scope="module", params=CASES)
def ran(request: pytest.FixtureRequest) -> tuple[Case, Environment, Plan, Episodes]:
    case = CASES[request.param]
    env = case.make()
    plan = make_plan(env, NUM)
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


def test_a_fall_is_termination(ran: tuple[Case, Environment, Plan, Episodes]) -> None:
    case, env, _, episodes = ran
    assert episodes.ok.all()
    short = episodes.length < env.horizon
    assert short.any() == case.falls
    assert episodes.terminated[short].all()


@pytest.mark.parametrize("name", CASES)
def test_the_time_limit_is_none(name: str) -> None:
    env = CASES[name].make()
    env.horizon = 8  # type: ignore[misc]  # nobody falls so soon
    episodes = BatchDriver(env).run(act_gently, make_plan(env, NUM), rewards=True)
    assert (episodes.length == 8).all()
    assert not episodes.terminated.any()
    driven = SmacEnv(env)
    driven.reset(seed=0)
    for _ in range(8):
        assert driven.step(np.zeros(env.action_dim, np.float32))[2:4] == (False, False)


@pytest.mark.parametrize("fault", [np.nan, 1e9])
@pytest.mark.parametrize(
    "name", ["ant-dir", "ant-goal-ring", "humanoid-dir", "walker-param", "hopper-param"]
)
def test_a_diverging_simulator_ends_its_own_episode_and_no_other(
    name: str, fault: float, capfd: pytest.CaptureFixture[str]
) -> None:
    env = CASES[name].make()
    plan, driver = make_plan(env, 3), BatchDriver(env)
    expected = driver.run(act_gently, plan, rewards=True)
    episodes = driver.run(sabotaged(driver, act_gently, fault), plan, rewards=True)
    assert episodes.ok.tolist() == [True, False, True]
    assert episodes.length[1] == 5
    assert not episodes.terminated[1]
    assert (expected.length > 5).all()
    for part in ("obs", "action", "reward", "path"):
        cut, whole = getattr(episodes, part), getattr(expected, part)
        np.testing.assert_array_equal(cut[[0, 2]], whole[[0, 2]])
        np.testing.assert_array_equal(cut[1, :5], whole[1, :5])
    np.testing.assert_array_equal(episodes.final_obs[1], expected.obs[1, 5])
    # The simulator that diverged serves the next episode as if nothing had been.
    again = driver.run(act_gently, plan, rewards=True)
    np.testing.assert_array_equal(again.obs, expected.obs)
    assert capfd.readouterr() == ("", "")


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


# ---- humanoid-dir --------------------------------------------------------------------------------


def test_the_humanoids_directions_fill_the_circle() -> None:
    tasks = HumanoidDir().sample_tasks(1337, 400, 100)[:, 0]
    assert 0.0 <= tasks.min() < 0.1
    assert 6.2 < tasks.max() < 2.0 * np.pi
    counts, _ = np.histogram(tasks, bins=5, range=(0.0, 2.0 * np.pi))
    assert (abs(counts - 100) < 5 * np.sqrt(80)).all()


def test_the_humanoids_model_is_the_authors() -> None:
    model = HumanoidDir().load_model()
    assert (model.opt.timestep, model.opt.integrator) == (0.003, mujoco.mjtIntegrator.mjINT_RK4)
    assert (model.nq, model.nv, model.nu, model.nbody) == (24, 23, 17, 14)
    np.testing.assert_allclose(model.actuator_ctrlrange, [[-0.4, 0.4]] * 17)
    gears = [100, 100, 100, 100, 100, 300, 200, 100, 100, 300, 200, *[25] * 6]
    assert model.actuator_gear[:, 0].tolist() == gears


def test_the_humanoid_observes_contact_forces() -> None:
    env = HumanoidDir()
    episodes = BatchDriver(env).run(do_nothing, make_plan(env, 4), rewards=True)
    contact = episodes.obs[:, :, -84:]
    # It falls on its feet, which then carry its weight: about 42 kg.
    assert np.abs(contact).max() > 42.0 * 9.81
    assert not contact[:, :, :6].any()  # the world's own body
    weight = episodes.obs[:, 0, 45:185].reshape(4, 14, 10)[:, :, 9].sum(axis=1)  # masses in cinert
    np.testing.assert_allclose(weight, 42.116, rtol=1e-4)


def test_the_humanoids_reward_by_hand() -> None:
    env = HumanoidDir()
    before, after = np.zeros((3, 380)), np.zeros((3, 380))
    after[:, 378], after[:, 379] = 0.03, 0.015  # 2 m/s along x, 1 m/s along y
    after[:, 300] = 1e3, 1e4, 0.0  # contact cost 0.5, and 50, of which 10 count
    action = np.zeros((3, 17), np.float32)
    action[:, :2] = 0.5, -1.0
    task = np.array([[0.0], [np.pi / 2], [np.pi]])
    expected = 1.25 * np.array([2.0, 1.0, -2.0]) - [0.5, 10.0, 0.0] - 0.1 * 0.16 * 1.25 + 5.0
    np.testing.assert_allclose(env.reward(before, action, after, task), expected)


def test_the_humanoid_falls_below_and_above() -> None:
    state = np.ones((4, 380))
    state[:, 2] = 0.99, 1.0, 2.0, 2.01
    assert HumanoidDir().terminated(state).tolist() == [True, False, False, True]


# ---- walker-param, hopper-param ------------------------------------------------------------------

PARAM = [WalkerParam, HopperParam]


@pytest.mark.parametrize("make", PARAM)
def test_multipliers_follow_their_law(make: type[DynamicsParam]) -> None:
    env = make()
    tasks = env.sample_tasks(0, 900, 100)
    damping = np.array([name.startswith("damping_") for name in env.task_fields])
    for chosen, base in ((~damping, 1.5), (damping, 1.3)):
        exponent = np.log(tasks[:, chosen]) / np.log(base)
        assert np.abs(exponent).max() <= 3.0
        np.testing.assert_allclose(exponent.mean(axis=0), 0.0, atol=5 * np.sqrt(3.0 / 1000))
        np.testing.assert_allclose(exponent.std(axis=0), np.sqrt(3.0), rtol=0.08)
    # Every element has a multiplier of its own.
    correlation = np.corrcoef(np.log(tasks).T) - np.eye(len(env.task_fields))
    assert np.abs(correlation).max() < 0.2


@pytest.mark.parametrize("make", PARAM)
def test_tasks_never_compound(make: type[DynamicsParam]) -> None:
    env = make()
    plain = np.ones((1, len(env.task_fields)))
    heavy, light = env.sample_tasks(0, 2, 0)[:, None]
    physics = env.make_physics(1)
    start = env.initial_state(np.random.default_rng(0))[None]

    def dynamics(model: mujoco.MjModel = physics.model) -> list[np.ndarray]:
        names = ("body_mass", "body_inertia", "geom_friction", "dof_damping")
        return [getattr(model, name).copy() for name in names]

    untouched = dynamics(env.load_model())
    physics.reset(start, heavy)
    first = dynamics()
    physics.reset(start, light)
    assert all((a != b).any() for a, b in zip(first, dynamics(), strict=True))
    physics.reset(start, heavy)
    assert all((a == b).all() for a, b in zip(first, dynamics(), strict=True))
    physics.reset(start, plain)
    assert all((a == b).all() for a, b in zip(untouched, dynamics(), strict=True))
    # What has no multiplier keeps its value under every task.
    physics.reset(start, heavy)
    mass, _, friction, damping = dynamics()
    assert mass[0] == 0.0
    assert not damping[:3].any()
    np.testing.assert_array_equal(friction[:, 1:], untouched[2][:, 1:])
    assert (env.load_model().geom_condim <= 3).all()


@pytest.mark.parametrize("make", PARAM)
def test_every_group_of_multipliers_changes_the_motion(make: type[DynamicsParam]) -> None:
    env = make()
    groups = sorted({name.split("_")[0] for name in env.task_fields})
    assert groups == ["damping", "friction", "inertia", "mass"]
    tasks = np.ones((5, len(env.task_fields)))
    for row, group in enumerate(groups):
        chosen = [name.startswith(group) for name in env.task_fields]
        tasks[row, chosen] = np.asarray(env.task_low)[chosen]
    plan = make_plan(env, 1)
    start = np.repeat(plan.initial, 5, axis=0)
    physics = env.make_physics(5)
    physics.reset(start, tasks)
    for step in range(30):
        physics.step(np.tanh(plan.noise[[0] * 5, step]), np.ones(5, dtype=bool))
    distance = np.abs(physics.state[:4] - physics.state[4]).max(axis=1)
    assert (distance > 1e-6).all(), dict(zip(groups, distance, strict=True))


def test_the_walkers_model_is_the_authors() -> None:
    model = WalkerParam().load_model()
    assert (model.opt.timestep, model.opt.integrator) == (0.002, mujoco.mjtIntegrator.mjINT_RK4)
    assert (model.nq, model.nv, model.nu, model.nbody) == (9, 9, 6, 8)
    assert model.actuator_gear[:, 0].tolist() == [100.0] * 6
    assert model.geom("foot_geom").friction[0] == 0.9
    assert model.geom("foot_left_geom").friction[0] == 1.9
    assert len(WalkerParam.task_fields) == 42


def test_the_hoppers_model_is_the_authors() -> None:
    model = HopperParam().load_model()
    assert (model.opt.timestep, model.opt.integrator) == (0.002, mujoco.mjtIntegrator.mjINT_RK4)
    assert (model.nq, model.nv, model.nu, model.nbody) == (6, 6, 3, 5)
    assert model.actuator_gear[:, 0].tolist() == [200.0] * 3
    assert model.geom("foot_geom").friction[0] == 2.0
    assert len(HopperParam.task_fields) == 24


@pytest.mark.parametrize("make", PARAM)
def test_the_original_timestep_is_an_option(make: type[DynamicsParam]) -> None:
    assert make().control_seconds == pytest.approx(0.008)
    slow = make(timestep=0.004)
    assert slow.control_seconds == pytest.approx(0.016)
    assert slow.make_physics(1).model.opt.timestep == 0.004
    before, after = np.zeros((1, slow.initial_dim)), np.zeros((1, slow.initial_dim))
    after[0, 0] = 0.032  # 2 m/s
    action = np.zeros((1, slow.action_dim), np.float32)
    action[0, 0] = 0.5
    reward = slow.reward(before, action, after, np.ones((1, len(slow.task_fields))))
    assert reward[0] == pytest.approx(2.0 + 1.0 - 0.00025)
    with pytest.raises(ConfigError, match=r"expected 0.002 or 0.004, found 0.003"):
        make(timestep=0.003)


def test_the_walker_falls() -> None:
    state = np.zeros((6, 18))
    state[:, 1] = 1.2, 0.8, 2.0, 1.2, 1.2, 1.2
    state[:, 2] = 0.0, 0.0, 0.0, 1.0, -1.0, 0.99
    assert WalkerParam().terminated(state).tolist() == [False, True, True, True, True, False]


def test_the_hopper_falls() -> None:
    state = np.zeros((7, 12))
    state[:, 1] = 1.2, 0.7, 5.0, 1.2, 1.2, 1.2, 1.2
    state[:, 2] = 0.0, 0.0, 0.0, 0.2, -0.2, 0.0, 0.0
    state[:, 11] = 0.0, 0.0, 0.0, 0.0, 0.0, 100.0, 99.0
    expected = [False, True, False, True, True, True, False]
    assert HopperParam().terminated(state).tolist() == expected


@pytest.mark.parametrize("make", PARAM)
def test_impossible_dynamics_are_refused(make: type[DynamicsParam]) -> None:
    env = make()
    for value in (-1.0, 0.0, 4.0, np.nan, np.inf):
        tasks = env.sample_tasks(0, 2, 0)
        tasks[1, 0] = value
        with pytest.raises(TaskError, match=r"mass_torso out of range: in .*-param, task 1"):
            env.check_tasks(tasks)


@pytest.mark.parametrize("make", PARAM)
def test_velocities_are_seen_clipped(make: type[DynamicsParam]) -> None:
    env = make()
    state = np.full((1, env.initial_dim), 30.0)
    state[0, -1] = -30.0
    obs = env.observe(state)[0]
    positions = env.initial_dim // 2 - 1
    assert obs[:positions].tolist() == [30.0] * positions
    assert obs[positions:-1].tolist() == [10.0] * positions
    assert obs[-1] == -10.0


@pytest.mark.parametrize("name", ["humanoid-dir", "walker-param", "hopper-param"])
def test_an_untrained_walker_falls_soon(name: str) -> None:
    # Measured here over 600 episodes of tanh-N(0, 1); of 100 the standard error is about 1 step.
    lengths = {"humanoid-dir": 23.9, "walker-param": 20.7, "hopper-param": 21.2}
    env = CASES[name].make()
    episodes = BatchDriver(env).run(act_at_random, make_plan(env, 100, seed=1), rewards=True)
    assert episodes.length.mean() == pytest.approx(lengths[name], abs=4.0)
