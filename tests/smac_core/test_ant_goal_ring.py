"""The ant whose goals lie on a ring: its goals, its model, its reward, and the gait as expert."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest

from smac_core.adaptation import do_nothing
from smac_core.envs.ant_gait import turned
from smac_core.envs.ant_goal_ring import AntGoalRing, AntGoalRingFar
from smac_core.envs.episodes import BatchDriver, Plan, Scripted
from smac_core.errors import ConfigError
from tests.smac_core.played import make_plan


def bearings(env: AntGoalRing, num: int, seed: int = 1337) -> np.ndarray:
    goals = env.sample_tasks(seed, num, num)
    np.testing.assert_allclose(np.hypot(*goals.T), 2.0)
    angle: np.ndarray = np.degrees(np.arctan2(goals[:, 1], goals[:, 0]))
    return angle


def test_goals_are_equally_spaced_and_in_no_order() -> None:
    angle = bearings(AntGoalRing(), 40)
    for part in (angle[:40], angle[40:]):
        assert part.min() > 0.0
        assert part.max() <= 90.0
        np.testing.assert_allclose(np.diff(np.sort(part)), 90.0 / 40)
        assert 20.0 < part[-10:].mean() < 70.0  # the last ones are validation tasks
    assert np.abs(angle[:40, None] - angle[40:]).min() > 1e-3
    one = np.array([bearings(AntGoalRing(), 1, seed)[0] for seed in range(40)])
    assert np.ptp(one) > 60.0


def test_goals_for_extrapolation_lie_beyond_the_training_goals() -> None:
    angle = bearings(AntGoalRingFar(reward="sparse"), 20)
    assert 0.0 < angle[:20].min() < angle[:20].max() <= 90.0
    assert 90.0 < angle[20:].min() < angle[20:].max() <= 180.0
    assert ((angle[20:] <= 135.0).sum(), (angle[20:] > 135.0).sum()) == (10, 10)
    wide = bearings(AntGoalRing(train_low=45.0, train_high=135.0), 10)
    assert (np.abs(wide - 90.0) <= 45.0).all()


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"reward": "pearl"}, "expected dense or sparse, found pearl"),
        ({"test_low": 100.0}, "found 100.0 to 90.0"),
        ({"train_high": 361.0}, "bearings of goals out of order"),
        ({"train_low": float("nan")}, "bearings of goals out of order"),
    ],
)
def test_parameters_of_the_ring_are_checked(params: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        AntGoalRing(**params)  # type: ignore[arg-type]


def test_the_goal_ants_model_is_weak_and_starts_in_a_crouch() -> None:
    env = AntGoalRing()
    model = env.load_model()
    assert (model.opt.timestep, model.opt.integrator) == (0.01, mujoco.mjtIntegrator.mjINT_RK4)
    assert model.actuator_gear[:, 0].tolist() == [30.0] * 8
    assert env.control_seconds == pytest.approx(0.01)
    starts = np.stack([env.initial_state(np.random.default_rng(i)) for i in range(200)])
    crouch = [0, 0, 0.55, 1, 0, 0, 0, 0, 1, 0, -1, 0, -1, 0, 1, *[0] * 14]
    np.testing.assert_allclose(starts, np.tile(crouch, (200, 1)), atol=0.02)
    assert np.ptp(starts, axis=0).min() > 0.03


def test_the_goal_ants_reward_by_hand() -> None:
    goal = np.array([[2.0, 0.0], [0.0, 2.0], [0.0, 2.0]])
    after = np.zeros((3, 122))
    after[:, :2] = [0.5, -0.25], [0.5, 1.5], [0.6, 1.4]
    after[:, 29], after[:, 112] = 7.0, -0.5  # contact forces count up to 1 in size
    after[:, 113:] = 9.0
    action = np.zeros((3, 8), np.float32)
    action[:, :2] = 0.5, -1.0
    rest = 4.05 - 0.005 * 1.25 - 5e-4 * 1.25
    dense = AntGoalRing().reward(after, action, after, goal)
    np.testing.assert_allclose(dense, np.array([-1.75, -1.0, -1.2]) + rest)
    sparse = AntGoalRing(reward="sparse").reward(after, action, after, goal)
    np.testing.assert_allclose(sparse, np.array([-2.0, -1.0, -2.0]) + rest)
    np.testing.assert_allclose(AntGoalRing().latent_of_task(goal)[0], [1.0, 0.0])


def test_a_goal_ant_that_falls_is_done() -> None:
    env = AntGoalRing()
    start = np.stack([env.initial_state(np.random.default_rng(i)) for i in range(3)])
    start[1, 2], start[2, 3:7] = 1.3, [0.0, 1.0, 0.0, 0.0]  # up in the air; on its back
    start[2, 2] = 0.26
    plan = make_plan(env, 3)
    plan = Plan(plan.task, plan.latent, plan.noise, start)
    episodes = BatchDriver(env).run(do_nothing, plan, rewards=True)
    assert episodes.terminated.tolist() == [False, True, False]
    assert episodes.length.tolist() == [200, 1, 200]
    state = np.zeros((4, 122))
    state[:, 2] = 0.19, 0.2, 1.0, 1.01
    assert env.terminated(state).tolist() == [True, False, False, True]


def test_the_gait_is_an_expert_in_every_direction() -> None:
    env = AntGoalRing(train_low=-180.0, train_high=180.0)
    plan = make_plan(env, 48)
    episodes = BatchDriver(env).run(Scripted(env), plan, rewards=True)
    assert (episodes.length == 200).all()
    # baselines.md section 4: recorded experts have 519 to 556. Standing: 245 to 410.
    assert episodes.returns.mean() > 450.0
    missed, moved = env.measure(episodes.path, episodes.length, plan.task).T
    assert missed.mean() < 1.0
    assert moved.mean() > 1.2
    # The ant's own symmetry: a quarter circle is the same motion, turned.
    driven = np.random.default_rng(0).uniform(-1.0, 1.0, (4, 8))
    np.testing.assert_array_equal(turned(driven, np.array([0, 4, -4, 8])), driven)
    start = env.initial_state(np.random.default_rng(0))[None]
    start[0, :7], start[0, 15:] = [0.0, 0.0, 0.55, 1.0, 0.0, 0.0, 0.0], 0.0
    start[0, 7:15] = [0.0, 1.0, 0.0, -1.0, 0.0, -1.0, 0.0, 1.0]
    places = []
    for quarters in range(4):
        actions = turned(np.tile(driven[:1], (30, 1)), np.full(30, quarters))
        once = Plan(plan.task[:1], plan.latent[:1, :30], np.float32(actions)[None], start)
        places.append(BatchDriver(env).run(lambda o, z, n: n, once, rewards=False).path[0, 30])
    x, y = places[0]
    np.testing.assert_allclose(places[1:], [[-y, x], [-x, -y], [y, -x]], atol=1e-3)
    assert np.hypot(x, y) > 0.01


def test_a_standing_goal_ant_earns_what_its_distance_leaves() -> None:
    env = AntGoalRing()
    plan = make_plan(env, 8)
    episodes = BatchDriver(env).run(do_nothing, plan, rewards=True)
    assert (episodes.length == 200).all()
    still = 200.0 * (4.05 - np.abs(plan.task).sum(axis=1))
    np.testing.assert_allclose(episodes.returns, still, atol=30.0)
    measured = env.measure(episodes.path, episodes.length, plan.task)
    np.testing.assert_allclose(measured[:, 0], 2.0, atol=0.15)
    assert (measured[:, 1] < 0.15).all()
