"""Pushing from pixels: the same world, seen through a camera."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from smac_core.agent import prior
from smac_core.envs import rendering
from smac_core.envs.ant_goal_ring import AntGoalRing
from smac_core.envs.definition import Environment
from smac_core.envs.episodes import BatchDriver, Episodes, Plan, Scripted
from smac_core.envs.gym_driver import SmacEnv
from smac_core.envs.sawyer_door import SawyerDoor
from smac_core.envs.sawyer_push import SawyerPush
from smac_core.envs.sawyer_push_pixels import SawyerPushPixels
from smac_core.errors import ConfigError, SmacError
from smac_core.planning import plan_episodes
from tests.smac_core.played import make_plan

NUM = 3
CAN_DRAW = pytest.mark.usefixtures("graphics")


def repeat(obs: np.ndarray, latent: np.ndarray, noise: np.ndarray) -> np.ndarray:
    return noise  # which holds the actions of the script


@pytest.fixture
def seen() -> tuple[Plan, Episodes]:
    """What the script did, seen by numbers, after a plan that repeats its actions."""
    env = SawyerPush()
    plan = make_plan(env, NUM)
    episodes = BatchDriver(env).run(Scripted(env), plan, rewards=True)
    return Plan(plan.task, plan.latent, episodes.action, plan.initial), episodes


@CAN_DRAW
def test_the_world_is_that_of_pushing(seen: tuple[Plan, Episodes]) -> None:
    env = SawyerPushPixels()
    plan, numbers = seen
    episodes = BatchDriver(env).run(repeat, plan, rewards=True)
    np.testing.assert_array_equal(episodes.reward, numbers.reward)
    np.testing.assert_array_equal(episodes.path, numbers.path)
    np.testing.assert_array_equal(episodes.obs[..., -3:], numbers.obs[..., :3])
    pictures = episodes.obs[..., :-3]
    assert (pictures.min(), pictures.dtype) == (pytest.approx(0.0, abs=0.2), np.float32)
    assert 0.9 < pictures.max() <= 1.0
    # No batch, no thread and no other driver changes a bit.
    other = BatchDriver(SawyerPushPixels(), threads=2, batch=1).run(repeat, plan, rewards=True)
    np.testing.assert_array_equal(other.obs, episodes.obs)
    single = SmacEnv(SawyerPushPixels(), task=plan.task[1])
    obs, _ = single.reset(seed=0)
    for step in range(5):
        np.testing.assert_array_equal(obs, episodes.obs[1, step])
        obs, *_ = single.step(episodes.action[1, step])


@CAN_DRAW
def test_the_script_is_told_what_it_reads_of_numbers(seen: tuple[Plan, Episodes]) -> None:
    plan, numbers = seen
    env = SawyerPushPixels()
    keys = [(0, 3, row) for row in range(NUM)]
    own = plan_episodes(env, keys, plan.task, prior(NUM, 2), resample_every_step=False)
    episodes = BatchDriver(env, batch=2).run(Scripted(env), own, rewards=True)
    np.testing.assert_array_equal(episodes.action, numbers.action)
    np.testing.assert_array_equal(episodes.reward, numbers.reward)
    np.testing.assert_array_equal(episodes.privileged, numbers.obs)
    assert numbers.privileged is None, "observations of numbers show all that the script reads"
    picked = episodes.select(np.array([2]))
    np.testing.assert_array_equal(picked.privileged, numbers.obs[[2]])
    assert episodes.obs.shape[2] == env.obs_dim


@CAN_DRAW
def test_a_picture_shows_the_cube_and_not_the_goal(seen: tuple[Plan, Episodes]) -> None:
    env = SawyerPushPixels()
    plan, numbers = seen
    episodes = BatchDriver(env).run(repeat, plan, rewards=True)
    for row in range(NUM):
        for step in (0, 25):
            assert env.image_shape == (48, 64, 3)
            picture = episodes.obs[row, step, :-3].reshape(env.image_shape)
            blue = picture[..., 2] > 0.5 + picture[..., 0]
            down, right = np.argwhere(blue).mean(axis=0)
            x, y = numbers.obs[row, step, 3:5]
            # The camera faces the base: nearer to it is lower, and x grows to the left.
            assert right == pytest.approx(31.5 - 120.0 * x, abs=3.0)
            assert 14.0 < down < 47.0
            assert (down > 22.0) == (y > 0.58)
    # At the start nothing tells the tasks apart.
    assert (episodes.obs[:, 0] == episodes.obs[0, 0]).all()
    assert not np.array_equal(plan.task[0], plan.task[1])


@CAN_DRAW
def test_gymnasiums_checker_is_content_with_pictures() -> None:
    check_env(SmacEnv(SawyerPushPixels()), skip_render_check=True)


@CAN_DRAW
@pytest.mark.parametrize("make", [SawyerPush, SawyerDoor, AntGoalRing])
def test_what_people_see_marks_the_goal(make: type[Environment]) -> None:
    env = SmacEnv(make(), render_mode="rgb_array")
    pictures = []
    for task in env.definition.sample_tasks(1337, 2, 0):
        env.reset(seed=0, options={"task": task})
        pictures.append(np.asarray(env.render(), dtype=np.int64))
    one, two = ((p[..., 1] > p[..., 0] + 30) & (p[..., 1] > p[..., 2] + 30) for p in pictures)
    assert one.sum() > 5
    assert (one != two).any()
    env.close()


@CAN_DRAW
def test_a_diverged_simulator_has_a_picture_too() -> None:
    env = SawyerPushPixels()
    state = np.concatenate([env.initial_state(np.random.default_rng(0)), np.zeros(3)])
    obs = env.observe(np.stack([state, np.full(29, np.nan)]))
    assert np.isfinite(obs[0]).all()
    assert not obs[1, :-3].any()
    assert np.isnan(obs[1, -3:]).all()


def test_without_graphics_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.setattr(rendering.ctypes.util, "find_library", lambda name: None)
    env = SmacEnv("smac_core.envs.sawyer_push_pixels:SawyerPushPixels")
    with pytest.raises(SmacError, match=r"cannot draw MuJoCo .*EGL or OSMesa.*neither library"):
        env.reset(seed=0)


def test_what_needs_the_cubes_place_is_refused() -> None:
    env = SawyerPushPixels(reward="sparse")
    row, action = np.zeros((1, env.obs_dim), np.float32), np.zeros((1, 3), np.float32)
    with pytest.raises(ConfigError, match="where the cube is, of which rows hold a picture"):
        env.reward_of_rows(row, action, row, np.zeros((1, 2)), np.ones(1, dtype=bool))
