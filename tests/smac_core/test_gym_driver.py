"""The Gymnasium driver: Gymnasium's own checks, and bit identity with the batch driver."""

from __future__ import annotations

import sys
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from gymnasium.wrappers import ClipAction

from smac_core.adaptation import act_at_random
from smac_core.agent import prior
from smac_core.envs import registration, rendering
from smac_core.envs.definition import Environment
from smac_core.envs.episodes import BatchDriver
from smac_core.envs.gym_driver import SmacEnv
from smac_core.envs.lookup import find_environment
from smac_core.envs.point_robot import PointRobot
from smac_core.errors import ConfigError, SimulationError, SmacError, TaskError
from smac_core.planning import generator, plan_episodes
from tests.smac_core.stairs import Stairs

NAMES = ["SMAC/PointRobot-v0", "SMAC/CheetahVel-v0", "SMAC/AntDir-v0"]
NAMES += ["SMAC/HumanoidDir-v0", "SMAC/WalkerParam-v0", "SMAC/HopperParam-v0"]
NAMES += ["SMAC/AntGoalRing-v0", "SMAC/AntGoalRingFar-v0", "SMAC/SawyerPush-v0"]
NAMES += ["SMAC/SawyerDoor-v0"]


def definition_of(env: gymnasium.Env[Any, Any]) -> Environment:
    found = env.unwrapped
    assert isinstance(found, SmacEnv)
    return found.definition


@pytest.mark.parametrize("name", NAMES)
def test_gymnasiums_checker_is_content(name: str) -> None:
    # Warnings are errors here, so this is clean. Rendering is a test of its own.
    env = gymnasium.make(name).unwrapped
    check_env(env, skip_render_check=True)


@pytest.mark.parametrize("name", NAMES)
def test_gymnasium_imports_the_names_by_itself(name: str) -> None:
    env = gymnasium.make(f"smac_core.envs.registration:{name}")
    env.reset(seed=0)
    horizon = definition_of(env).horizon
    for step in range(horizon):
        _, reward, terminated, truncated, _ = env.step(env.action_space.sample())
        assert type(reward) is float
        assert truncated == (step == horizon - 1)
        if terminated:
            assert definition_of(env).terminated(env.unwrapped._physics.state)[0]  # type: ignore[attr-defined]
            break
    env.close()


@pytest.mark.parametrize("name", NAMES)
def test_both_drivers_give_the_same_bits(name: str) -> None:
    env = gymnasium.make(name).unwrapped
    definition = definition_of(env)
    num = 3
    tasks = definition.sample_tasks(1, num, 0)
    keys = [(5, 0, row) for row in range(num)]
    plan = plan_episodes(definition, keys, tasks, prior(num, 2), resample_every_step=False)
    for batch, threads in ((64, 1), (1, 2), (2, 2)):
        driver = BatchDriver(definition, threads=threads, batch=batch)
        episodes = driver.run(act_at_random, plan, rewards=True)
        for row, key in enumerate(keys):
            env.np_random = generator(key)
            obs, info = env.reset(options={"task": tasks[row]})
            np.testing.assert_array_equal(info["task"], tasks[row])
            terminated = False
            for step in range(int(episodes.length[row])):
                assert not terminated
                np.testing.assert_array_equal(obs, episodes.obs[row, step])
                obs, reward, terminated, *_ = env.step(episodes.action[row, step])
                assert np.float32(reward) == episodes.reward[row, step]
            assert terminated == episodes.terminated[row]
            assert terminated or episodes.length[row] == definition.horizon
            np.testing.assert_array_equal(obs, episodes.final_obs[row])


def test_a_seed_names_start_and_task() -> None:
    env = SmacEnv("smac_core.envs.cheetah_vel:CheetahVel")
    one, two = env.reset(seed=3), env.reset(seed=3)
    np.testing.assert_array_equal(one[0], two[0])
    np.testing.assert_array_equal(one[1]["task"], two[1]["task"])
    three = env.reset(seed=4)
    assert not np.array_equal(one[0], three[0])
    assert not np.array_equal(one[1]["task"], three[1]["task"])
    # The start does not depend on whether the task was given.
    given = env.reset(seed=3, options={"task": [1.5]})
    np.testing.assert_array_equal(one[0], given[0])
    assert given[1]["task"].tolist() == [1.5]


def test_tasks_follow_the_familys_own_law() -> None:
    env = SmacEnv(PointRobot())
    goals = np.stack([env.reset(seed=seed)[1]["task"] for seed in range(20)])
    np.testing.assert_allclose(np.hypot(*goals.T), 1.0)
    assert len(np.unique(goals[:, 0])) == 20


def test_tasks_by_constructor_and_by_number() -> None:
    fixed = SmacEnv(PointRobot(), task=[0.6, 0.8])
    assert fixed.reset(seed=0)[1]["task"].tolist() == [0.6, 0.8]
    assert fixed.reset()[1]["task"].tolist() == [0.6, 0.8]
    assert fixed.reset(options={"task": [0.0, 1.0]})[1]["task"].tolist() == [0.0, 1.0]
    assert fixed.reset()[1]["task"].tolist() == [0.6, 0.8]
    published = np.random.RandomState(1337).uniform(0.0, 3.0, 130)
    env = SmacEnv("smac_core.envs.cheetah_vel:CheetahVel")
    for number in (0, 99, 129):
        info = env.reset(seed=0, options={"task_id": number})[1]
        assert info["task"].tolist() == [published[number]]
    listed = SmacEnv(PointRobot(), tasks=[[1.0, 0.0], [0.0, 1.0]])
    assert listed.reset(options={"task_id": np.int64(1)})[1]["task"].tolist() == [0.0, 1.0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task_id": 130}, "no such task: .* expected task_id 0 to 119, found 130"),
        ({"task_id": -1}, "no such task"),
        ({"task_id": 1.0}, "task_id is not an integer"),
        ({"task_id": True}, "task_id is not an integer"),
        ({"task": [2.0, 0.0]}, "goal_x out of range"),
        ({"task": [0.0]}, "wrong width"),
        ({"task": [0.0, np.nan]}, "goal_y out of range"),
        ({"goal": 3}, "options of reset refused: .* found goal"),
        ({"task": [0.0, 1.0], "task_id": 0}, "at most one of task, task_id"),
    ],
)
def test_options_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(TaskError, match=message):
        SmacEnv(PointRobot()).reset(seed=0, options=options)


@pytest.mark.parametrize(
    "action",
    [[np.nan, 0.0], [np.inf, 0.0], [1.01, 0.0], [0.0], [0.0, 0.0, 0.0], [[0.0, 0.0]], 0.0],
)
def test_actions_are_checked(action: Any) -> None:
    env = SmacEnv(PointRobot())
    obs, _ = env.reset(seed=0)
    with pytest.raises(SimulationError, match="action refused: in point-robot"):
        env.step(np.array(action, dtype=np.float32))
    # Nothing moved.
    after, *_ = env.step(np.zeros(2, np.float32))
    np.testing.assert_array_equal(obs, after)


def test_the_usual_wrapper_clips_actions() -> None:
    env = ClipAction(SmacEnv(PointRobot()))
    env.reset(seed=0)
    obs, *_ = env.step(np.array([7.0, -0.5], np.float32))
    np.testing.assert_allclose(obs, [0.1, -0.05], rtol=1e-6)


def test_a_terminal_state_ends_the_episode() -> None:
    env = SmacEnv(Stairs(), task=[2, 0])
    env.reset(seed=0)
    up = np.ones(1, np.float32)
    assert env.step(up)[1:4] == (21.0, False, False)
    assert env.step(up)[1:4] == (22.0, True, False)
    with pytest.raises(SimulationError, match="step after the end of an episode"):
        env.step(up)
    env.reset()
    assert env.step(up)[2] is False


@pytest.mark.parametrize("fault", ["state", "observation"])
def test_divergence_ends_the_episode_with_a_word(fault: str) -> None:
    definition = Stairs(bad="observation" if fault == "observation" else "")
    env = SmacEnv(definition, task=[0, 3 if fault == "state" else 0])
    env.reset(seed=0)
    up = np.ones(1, np.float32)
    for _ in range(2):
        last, _, terminated, _, info = env.step(up)
        assert not terminated
        assert info["diverged"] is False
    obs, reward, terminated, truncated, info = env.step(up)
    assert (reward, terminated, truncated, info["diverged"]) == (0.0, True, False, True)
    np.testing.assert_array_equal(obs, last)
    with pytest.raises(SimulationError, match="step after the end"):
        env.step(up)


def test_a_diverging_cheetah_ends_too() -> None:
    class Wild(find_environment("smac_core.envs.cheetah_vel:CheetahVel")):  # type: ignore[misc]
        def initial_state(self, rng: np.random.Generator) -> np.ndarray:
            start: np.ndarray = super().initial_state(rng)
            start[9:] = 4e3
            return start

    env = SmacEnv(Wild())
    obs, _ = env.reset(seed=0)
    for _ in range(50):
        obs, _, terminated, _, info = env.step(np.zeros(6, np.float32))
        assert np.isfinite(obs).all()
        if terminated:
            break
    assert info["diverged"]


def test_faulty_definitions_are_refused() -> None:
    with pytest.raises(SimulationError, match="not finite at the start of an episode: in stairs"):
        SmacEnv(Stairs(bad="start")).reset(seed=0)
    env = SmacEnv(Stairs(bad="reward"))
    env.reset(seed=0)
    with pytest.raises(SimulationError, match="reward is not finite: in stairs"):
        env.step(np.zeros(1, np.float32))


def test_nothing_happens_before_reset() -> None:
    env = SmacEnv(PointRobot(), render_mode="rgb_array")
    with pytest.raises(ResetNeeded):
        env.step(np.zeros(2, np.float32))
    with pytest.raises(ResetNeeded):
        env.render()
    env.close()
    env.close()


def test_what_the_user_keeps_is_not_overwritten() -> None:
    env = SmacEnv(PointRobot())
    obs, info = env.reset(seed=0)
    kept = obs.copy()
    obs += 5.0
    info["task"] += 5.0
    after, *_ = env.step(np.zeros(2, np.float32))
    np.testing.assert_array_equal(after, kept)


def test_registering_twice_is_fine_and_unknown_definitions_are_not() -> None:
    assert registration.register("smac_core.envs.point_robot:PointRobot") == NAMES[0]
    with pytest.raises(ConfigError, match="unknown environment definition"):
        registration.register("smac_core.envs.nowhere:Env")


# ---- pictures ------------------------------------------------------------------------------------


def test_without_a_render_mode_there_is_no_picture() -> None:
    env = SmacEnv(PointRobot())
    env.reset(seed=0)
    assert env.render() is None
    with pytest.raises(ConfigError, match=r"unknown render mode: .* found human"):
        SmacEnv(PointRobot(), render_mode="human")


def test_the_raster_shows_agent_and_goal() -> None:
    env = gymnasium.make(NAMES[0], render_mode="rgb_array")
    env.reset(seed=0, options={"task": [0.0, 1.0]})
    first = env.render()
    assert first.shape == (240, 240, 3)
    assert first.dtype == np.uint8
    blue, green = (first == (30, 60, 160)).all(2), (first == (30, 130, 60)).all(2)
    middle = np.argwhere(blue).mean(0)
    np.testing.assert_allclose(middle, 119.5, atol=0.6)
    # One metre up is 80 pixels up.
    np.testing.assert_allclose(np.argwhere(green).mean(0), [39.5, 119.5], atol=0.6)
    env.step(np.array([1.0, 0.0], np.float32))
    moved = np.argwhere((env.render() == (30, 60, 160)).all(2)).mean(0)
    np.testing.assert_allclose(moved - middle, [0.0, 8.0], atol=0.6)
    env.close()


@pytest.mark.usefixtures("graphics")
@pytest.mark.parametrize("name", NAMES[1:])
def test_mujoco_is_drawn_without_a_screen(name: str) -> None:
    env = gymnasium.make(name, render_mode="rgb_array")
    env.reset(seed=0)
    first = env.render()
    assert first.shape == (240, 320, 3)
    assert first.std() > 10.0
    for _ in range(5):
        env.step(np.ones(env.action_space.shape, np.float32))
    assert np.abs(env.render().astype(int) - first).max() > 50
    if name == NAMES[1]:
        check_env(env.unwrapped)
    env.close()


@pytest.mark.parametrize(
    ("asked", "libraries", "expected"),
    [
        ("", {"EGL", "OSMesa"}, "egl"),
        ("", {"OSMesa"}, "osmesa"),
        ("OSMesa", {"EGL"}, "osmesa"),
        ("egl", set(), "egl"),
    ],
)
def test_choice_of_backend(
    asked: str, libraries: set[str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUJOCO_GL", asked)
    monkeypatch.setattr(
        rendering.ctypes.util, "find_library", lambda name: name if name in libraries else None
    )
    assert rendering.choose_backend() == expected


@pytest.mark.parametrize(("asked", "found"), [("", "neither library"), ("glfw", "MUJOCO_GL=glfw")])
def test_no_way_to_draw_is_one_line(
    asked: str, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUJOCO_GL", asked)
    monkeypatch.setattr(rendering.ctypes.util, "find_library", lambda name: None)
    env = SmacEnv("smac_core.envs.cheetah_vel:CheetahVel", render_mode="rgb_array")
    env.reset(seed=0)
    with pytest.raises(SmacError, match=f"cannot draw MuJoCo without a screen: .*{found}"):
        env.render()


def test_a_useless_driver_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "egl")
    monkeypatch.setitem(sys.modules, "mujoco.egl", None)  # the import then fails
    env = SmacEnv("smac_core.envs.cheetah_vel:CheetahVel", render_mode="rgb_array")
    env.reset(seed=0)
    with pytest.raises(SmacError, match=r"in backend egl, .*; set MUJOCO_GL to egl or osmesa"):
        env.render()
