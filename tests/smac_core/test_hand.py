"""The led hand and its things against plain MuJoCo: observations, rewards, and a sound world."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import mujoco
import numpy as np
import pytest

from smac_core.adaptation import act_at_random, do_nothing
from smac_core.envs.definition import Environment
from smac_core.envs.episodes import BatchDriver, Controller, Episodes, Plan, Scripted
from smac_core.envs.hand import HandPhysics, scene
from smac_core.envs.sawyer_door import DOOR_MJCF, SawyerDoor, angle_of, handle
from smac_core.envs.sawyer_push import CUBE_MJCF, SawyerPush
from smac_core.errors import ConfigError
from tests.smac_core.played import make_plan, sabotaged

NUM = 16


class PlainTable:
    """One simulator, stepped by MuJoCo's Python bindings with their default flags."""

    def __init__(self, text: str, task: np.ndarray, reward: str) -> None:
        self.task, self.variant = task, reward
        self.model = mujoco.MjModel.from_xml_string(text)
        self.data = mujoco.MjData(self.model)
        mujoco.mj_forward(self.model, self.data)

    def step(self, action: np.ndarray) -> None:
        """Move the target by a centimetre an axis, within its box."""
        low, high = (-0.5, 0.4, 0.05), (0.5, 1.0, 0.5)
        for axis in range(3):
            asked = self.data.mocap_pos[0, axis] + 0.01 * float(action[axis])
            self.data.mocap_pos[0, axis] = min(max(asked, low[axis]), high[axis])
        for _ in range(5):
            mujoco.mj_step(self.model, self.data)

    def hand(self) -> np.ndarray:
        return self.data.qpos[:3].copy()

    def fingers(self) -> list[float]:
        x, y, z = self.hand()
        return [x, y, z - 0.035]

    def observe(self) -> np.ndarray:
        raise NotImplementedError

    def reward(self) -> float:
        raise NotImplementedError


class PlainPush(PlainTable):
    """``sawyer-push``."""

    def __init__(self, task: np.ndarray, reward: str) -> None:
        text = scene("plain", np.array([0.0, 0.4, 0.05]), CUBE_MJCF, mass=0.2, firm=0.9)
        super().__init__(text, task, reward)

    def observe(self) -> np.ndarray:
        return np.concatenate([self.hand(), self.data.qpos[7:10]])

    def reward(self) -> float:
        cube = self.data.qpos[7:10]
        away, first = math.dist(cube[:2], self.task), math.dist((0.0, 0.52), self.task)
        reach = math.dist(cube, self.fingers())
        return {
            "push": -reach + 100.0 * max(0.0, first - away),
            "reach-distance": -reach - away,
            "distance": -away,
            "sparse": -away if away < 0.05 else -first,
        }[self.variant]


class PlainDoor(PlainTable):
    """``sawyer-door``."""

    def __init__(self, task: np.ndarray, reward: str) -> None:
        text = scene("plain", np.array([0.0, 0.4, 0.1]), DOOR_MJCF, mass=4.0, firm=0.9999)
        super().__init__(text, task, reward)

    def grasp(self) -> list[float]:
        angle = float(self.data.qpos[7])
        x = -0.2 + 0.28 * math.cos(angle) - 0.11 * math.sin(angle)
        return [x, 1.0 - 0.28 * math.sin(angle) - 0.11 * math.cos(angle), 0.3]

    def observe(self) -> np.ndarray:
        return np.concatenate([self.hand(), self.grasp()])

    def reward(self) -> float:
        angle, wanted = float(self.data.qpos[7]), float(self.task[0])
        worth = 10.0 * angle if angle <= wanted else max(0.0, 10.0 * (2.0 * wanted - angle))
        reach = math.dist(self.grasp(), self.fingers())
        if self.variant == "dense":
            return worth - reach
        return worth if reach < 0.1 else 0.0


@dataclass(frozen=True)
class Case:
    """An environment, what acts, and the same once more in plain MuJoCo."""

    make: Callable[[str], Environment]
    plain: Callable[[np.ndarray, str], PlainTable]
    rewards: tuple[str, ...]


CASES = {
    "sawyer-push": Case(SawyerPush, PlainPush, ("push", "reach-distance", "distance", "sparse")),
    "sawyer-door": Case(SawyerDoor, PlainDoor, ("gated", "dense")),
}
VARIANTS = [(name, reward) for name, case in CASES.items() for reward in case.rewards]


def run(env: Environment, acts: Controller | Scripted, num: int = NUM) -> tuple[Plan, Episodes]:
    plan = make_plan(env, num)
    return plan, BatchDriver(env).run(acts, plan, rewards=True)


@pytest.mark.parametrize(("name", "reward"), VARIANTS)
@pytest.mark.parametrize("scripted", [True, False])
def test_observations_and_rewards_equal_plain_mujoco(
    name: str, reward: str, scripted: bool
) -> None:
    env = CASES[name].make(reward)
    plan, episodes = run(env, Scripted(env) if scripted else act_at_random)
    assert episodes.ok.all()
    assert not episodes.terminated.any()
    for row in range(0, NUM, 5):
        plain = CASES[name].plain(plan.task[row], reward)
        for step in range(env.horizon):
            np.testing.assert_array_equal(episodes.obs[row, step], np.float32(plain.observe()))
            plain.step(episodes.action[row, step])
            expected = pytest.approx(plain.reward(), rel=1e-5, abs=1e-5)
            assert episodes.reward[row, step] == expected
        np.testing.assert_array_equal(episodes.final_obs[row], np.float32(plain.observe()))


@pytest.mark.parametrize("name", CASES)
def test_unknown_rewards_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name}.* or {CASES[name].rewards[-1]}, found pearl"):
        CASES[name].make("pearl")


@pytest.mark.parametrize(("name", "reward"), VARIANTS)
def test_rows_determine_the_rewards_of_every_task(name: str, reward: str) -> None:
    env = CASES[name].make(reward)
    plan, episodes = run(env, Scripted(env))
    assert env.not_in_rows is None
    after = np.concatenate([episodes.obs[:, 1:], episodes.final_obs[:, None]], axis=1)
    columns = (episodes.obs, episodes.action, after)
    flat = [column.reshape(-1, column.shape[2]) for column in columns]
    driver, others = BatchDriver(env), np.roll(plan.task, 1, axis=0)

    def replay(obs: np.ndarray, latent: np.ndarray, noise: np.ndarray) -> np.ndarray:
        return noise  # the same actions whatever the task

    again = Plan(others, plan.latent, episodes.action, plan.initial)
    for task, stored in (
        (plan.task, episodes.reward),
        (others, driver.run(replay, again, rewards=True).reward),
    ):
        first = np.zeros(len(flat[0]), dtype=bool)
        found = env.reward_of_rows(*flat, np.repeat(task, env.horizon, axis=0), first)
        np.testing.assert_allclose(found, stored.reshape(-1), atol=1e-4)
    assert not np.array_equal(stored, episodes.reward)


@pytest.mark.parametrize("fault", [np.nan, 1e12])
@pytest.mark.parametrize("name", CASES)
def test_a_diverging_table_ends_its_own_episode_and_no_other(name: str, fault: float) -> None:
    env = CASES[name].make(CASES[name].rewards[0])
    plan, driver = make_plan(env, 3), BatchDriver(env)
    expected = driver.run(act_at_random, plan, rewards=True)
    episodes = driver.run(sabotaged(driver, act_at_random, fault), plan, rewards=True)
    assert episodes.ok.tolist() == [True, False, True]
    assert episodes.length.tolist() == [env.horizon, 5, env.horizon]
    np.testing.assert_array_equal(episodes.obs[[0, 2]], expected.obs[[0, 2]])
    again = driver.run(act_at_random, plan, rewards=True)
    np.testing.assert_array_equal(again.obs, expected.obs)


@pytest.mark.parametrize("name", CASES)
def test_a_state_row_holds_the_whole_simulator(name: str) -> None:
    env = CASES[name].make(CASES[name].rewards[0])
    physics = env.make_physics(1)
    assert isinstance(physics, HandPhysics)
    model, data = physics.model, physics.data[0]
    physics.reset(env.initial_state(np.random.default_rng(0))[None], env.sample_tasks(0, 1, 0))
    np.testing.assert_array_equal(data.mocap_pos[0], data.qpos[:3])
    physics.step(np.array([[1.0, 1.0, -1.0]], np.float32), np.ones(1, dtype=bool))
    row = np.concatenate([data.qpos, data.qvel, data.mocap_pos[0]])
    np.testing.assert_array_equal(physics.state[0], row)
    assert (model.nmocap, model.nu, model.na) == (1, 0, 0)
    # A centimetre along an axis at full action, but not out of the box: the hand starts at its rim.
    start = env.initial_state(np.random.default_rng(0))[:3]
    moved = start + np.array([0.01, 0.01, -0.01])
    expected = np.clip(moved, [-0.5, 0.4, 0.05], [0.5, 1.0, 0.5])
    np.testing.assert_allclose(data.mocap_pos[0], expected)


@pytest.mark.parametrize("name", CASES)
def test_the_hand_cannot_leave_its_box(name: str) -> None:
    env = CASES[name].make(CASES[name].rewards[0])
    physics = env.make_physics(8)
    assert isinstance(physics, HandPhysics)
    physics.reset(
        np.stack([env.initial_state(np.random.default_rng(0))] * 8), env.sample_tasks(0, 8, 0)
    )
    signs = np.array(np.meshgrid([-1, 1], [-1, 1], [-1, 1])).reshape(3, 8).T.astype(np.float32)
    for corner in (signs, -signs):
        for _ in range(130):
            physics.step(corner, np.ones(8, dtype=bool))
        low, high = np.array([-0.5, 0.4, 0.05]), np.array([0.5, 1.0, 0.5])
        assert physics.ok.all()
        hand = physics.state[:, :3]
        assert (hand > low - 0.01).all()
        assert (hand < high + 0.01).all()
        upright = physics.state[:, 3:7]  # it always points down
        assert (np.abs(upright[:, 0]) > 0.99).all()


# ---- sawyer-push ---------------------------------------------------------------------------------


def test_goals_of_pushing_fill_their_rectangle() -> None:
    goals = SawyerPush().sample_tasks(1337, 400, 100)
    np.testing.assert_allclose(goals.min(axis=0), [-0.09, 0.70], atol=0.005)
    np.testing.assert_allclose(goals.max(axis=0), [0.10, 0.80], atol=0.005)


def test_the_reward_of_pushing_by_hand() -> None:
    state = np.zeros((2, 29))
    state[:, :3], state[:, 7:10] = [0.0, 0.6, 0.055], [0.03, 0.64, 0.02]
    goal = np.array([[0.0, 0.72], [0.0, 0.68]])
    away = np.array([math.hypot(0.03, 0.08), 0.05])
    push = 100.0 * (np.array([0.2, 0.16]) - away) - 0.05
    np.testing.assert_allclose(SawyerPush().reward(state, state, state, goal), push)
    further = state.copy()
    further[:, 8] = 0.4
    np.testing.assert_allclose(  # what is worse than at the start costs nothing
        SawyerPush().reward(state, state, further, goal), -math.hypot(0.03, 0.2)
    )
    near = state.copy()
    near[0, 7:9] = 0.0, 0.69
    sparse = SawyerPush(reward="sparse").reward(state, state, near, goal)
    np.testing.assert_allclose(sparse, [-0.03, -0.16])
    both = SawyerPush(reward="reach-distance").reward(state, state, state, goal)
    np.testing.assert_allclose(both, -0.05 - away)


def test_the_script_pushes_as_well_as_the_recorded_experts() -> None:
    # baselines.md section 4: returns 606 to 733, final distance 0.014 to 0.049 m.
    env = SawyerPush()
    plan, episodes = run(env, Scripted(env), 40)
    missed, success, near, moved = env.measure(episodes.path, episodes.length, plan.task).T
    assert missed.mean() < 0.03
    assert success.mean() > 0.9
    assert success.tolist() == (missed < 0.05).tolist()
    assert near.tolist() == (missed < 0.1).tolist()
    np.testing.assert_allclose(moved, 0.24, atol=0.12)
    assert 550.0 < episodes.returns.mean() < 733.0
    idle = run(env, do_nothing)[1]
    assert (idle.returns < 0.0).all()
    np.testing.assert_allclose(
        idle.final_obs, np.tile([0, 0.4, 0.05, 0, 0.52, 0.02], (16, 1)), atol=1e-3
    )


def test_the_cube_stays_on_the_table_and_upright() -> None:
    env = SawyerPush()
    physics = env.make_physics(1)
    physics.reset(env.initial_state(np.random.default_rng(0))[None], env.sample_tasks(0, 1, 0))
    ways = ((0, 0, 1, 10), (0, 1, 0, 12), (0, 0, -1, 30), (1, 1, 0, 20), (0, 0, 1, 20))
    for *way, steps in ways:  # from above onto the cube, and on
        for _ in range(steps):
            physics.step(np.array([way], np.float32), np.ones(1, dtype=bool))
            assert physics.ok.all()
            assert physics.state[0, 9] > 0.0
            assert np.abs(physics.state[0, 10]) > 0.999
    for _ in range(20):
        physics.step(np.zeros((1, 3), np.float32), np.ones(1, dtype=bool))
    assert physics.state[0, 9] == pytest.approx(0.02, abs=1e-3)


# ---- sawyer-door ---------------------------------------------------------------------------------


def test_targets_of_the_door_fill_their_range() -> None:
    angles = SawyerDoor().sample_tasks(1337, 400, 100)
    assert angles.min() == pytest.approx(0.04, abs=0.01)
    assert angles.max() == pytest.approx(0.97, abs=0.01)


def test_the_handle_tells_the_angle() -> None:
    angle = np.linspace(-3.0, 3.0, 25)
    np.testing.assert_allclose(angle_of(handle(angle)), angle, atol=1e-12)
    np.testing.assert_allclose(handle(np.zeros(1)), [[0.08, 0.89, 0.3]])
    opened = handle(np.array([np.pi / 2]))[0]  # the door's plane then points at the base
    np.testing.assert_allclose(opened, [-0.31, 0.72, 0.3])
    physics = SawyerDoor().make_physics(1)
    data, model = physics.data[0], physics.model
    assert model.joint("hinge").range.tolist() == [-3.0, 3.0]
    assert model.joint("hinge").damping[0] == 100.0
    data.qpos[7] = 0.7
    mujoco.mj_forward(model, data)
    np.testing.assert_allclose(data.geom("bar").xpos, handle(np.array([0.7]))[0])


def test_the_reward_of_the_door_by_hand() -> None:
    state = np.zeros((4, 18))
    state[:, 7] = 0.3, 0.5, 0.9, 0.3
    state[:, :3] = handle(state[:, 7]) + np.array([0.0, 0.0, 0.095])
    state[3, 2] += 0.05  # the fingers are too far away
    task = np.array([[0.4], [0.4], [0.4], [0.4]])
    gated = SawyerDoor().reward(state, state, state, task)
    np.testing.assert_allclose(gated, [3.0, 3.0, 0.0, 0.0], atol=1e-12)
    dense = SawyerDoor(reward="dense").reward(state, state, state, task)
    np.testing.assert_allclose(dense, [2.94, 2.94, -0.06, 2.89])


def test_the_script_opens_the_door_as_far_as_asked() -> None:
    env = SawyerDoor()
    plan, episodes = run(env, Scripted(env), 40)
    missed, success, near, opened = env.measure(episodes.path, episodes.length, plan.task).T
    assert missed.mean() < 0.03
    assert success.mean() > 0.9
    assert success.tolist() == (missed < 0.05).tolist()
    assert near.tolist() == (missed < 0.15).tolist()
    assert np.corrcoef(opened, plan.task[:, 0])[0, 1] > 0.98
    idle = run(env, do_nothing)[1]
    assert not idle.returns.any()
    assert (idle.path == idle.path[:, :1]).all()


def test_the_door_moves_when_it_is_pushed_and_else_stays() -> None:
    env = SawyerDoor()
    physics = env.make_physics(1)
    physics.reset(env.initial_state(np.random.default_rng(0))[None], env.sample_tasks(0, 1, 0))
    ways = ((0, 0, 1, 22), (1, 1, 0, 8), (0, 1, 0, 46), (0, 0, 0, 10))
    for *way, steps in ways:
        for _ in range(steps):
            physics.step(np.array([way], np.float32), np.ones(1, dtype=bool))
    assert physics.ok.all()
    shut = physics.state[0, 7]
    assert shut < -0.05  # pushed away from the base, through its handle
    for _ in range(20):
        physics.step(np.array([[0, -1, 0]], np.float32), np.ones(1, dtype=bool))
    assert physics.state[0, 7] == pytest.approx(shut, abs=0.02)  # nothing pulls it back
