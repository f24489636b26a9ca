"""The simulators of Sawyer Manipulation: exact repetition, workers that die, skills, Gymnasium."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import warnings
from collections.abc import Iterator

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from smac_core.envs import registration
from smac_core.envs.lookup import load_environment
from smac_core.envs.sawyer import crew as crews
from smac_core.envs.sawyer import pictures
from smac_core.envs.sawyer import tables as t
from smac_core.envs.sawyer import tasks as k
from smac_core.envs.sawyer.environment import SawyerManipulation, SawyerManipulation8
from smac_core.errors import ConfigError, SimulationError, SmacError
from tests.smac_core.sawyer import ALL, EMPTY, FULL, needs_pybullet, play, scenes
from tests.smac_core.test_episodes import equal

pytestmark = [pytest.mark.sawyer, needs_pybullet]
OPEN = np.array([1.0, 1, 0, 1, 1, 1, 1, 1, k.FL, k.FL, k.HAND])


@pytest.fixture
def env() -> Iterator[SawyerManipulation8]:
    made = SawyerManipulation8(workers=2)
    yield made
    made.close()


def actions(steps: int, num: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (steps, num, 4)).astype(np.float32)


def test_a_hundred_resets_are_identical_to_the_bit(env: SawyerManipulation8) -> None:
    physics = env.make_physics(2)
    tasks, taken, active = np.stack([FULL, OPEN]), actions(5, 2), np.ones(2, dtype=bool)
    first: np.ndarray | None = None
    for repeat in range(100):
        physics.reset(np.zeros((2, 1)), tasks)
        states = [physics.state.copy()]
        for action in taken:
            physics.step(action, active)
            states.append(physics.state.copy())
        if repeat % 10 == 0:  # an episode of other actions in between must leave no trace
            for action in actions(20, 2, repeat):
                physics.step(action, active)
        first = np.array(states) if first is None else first
        np.testing.assert_array_equal(np.array(states), first)


def test_no_number_of_workers_and_no_batch_changes_a_bit() -> None:
    tasks = k.draw_tasks(5, 9, ALL)
    runs = []
    for workers, batch in ((1, 9), (2, 9), (3, 2)):
        made = SawyerManipulation8(workers=workers)
        runs.append(play(made, tasks, batch=batch))
        made.close()
    assert equal(runs[0], runs[1])
    assert equal(runs[0], runs[2])


def test_a_worker_that_is_killed_is_replaced_and_its_episodes_are_redone(
    env: SawyerManipulation8,
) -> None:
    tasks = k.draw_tasks(5, 5, ALL)
    taken, active = actions(30, 5), np.ones(5, dtype=bool)

    def states(*, kill: bool) -> np.ndarray:
        physics = env.make_physics(5)
        physics.reset(np.zeros((5, 1)), tasks)
        seen = [physics.state.copy()]
        for step, action in enumerate(taken):
            if kill and step in {7, 8, 20}:
                process = physics._keeper.worker.process
                os.kill(process.pid, signal.SIGKILL)
                process.wait()
            physics.step(action, active)
            seen.append(physics.state.copy())
        return np.array(seen)

    undisturbed = states(kill=False)
    np.testing.assert_array_equal(states(kill=True), undisturbed)
    assert env.crew.replaced == 3


def test_a_worker_that_dies_again_and_again_is_one_clear_line(
    env: SawyerManipulation8, monkeypatch: pytest.MonkeyPatch
) -> None:
    physics = env.make_physics(1)
    physics.reset(np.zeros((1, 1)), FULL[None])
    receive = crews.Worker.receive

    def dying(worker: crews.Worker) -> bytes:
        worker.process.kill()
        return receive(worker)

    monkeypatch.setattr(crews.Worker, "receive", dying)
    with pytest.raises(SimulationError, match=r"dies again and again: .*3 dead workers in a row"):
        physics.step(actions(1, 1)[0], np.ones(1, dtype=bool))


def test_a_worker_without_its_urdf_folder_is_one_clear_line(env: SawyerManipulation8) -> None:
    shutil.rmtree(env.crew.folder)
    physics = env.make_physics(3)
    with pytest.raises(SimulationError, match=r"the worker has no URDF folder: .*arm.urdf"):
        physics.reset(np.zeros((3, 1)), np.tile(FULL, (3, 1)))


def test_simulators_that_are_not_active_rest(env: SawyerManipulation8) -> None:
    physics = env.make_physics(3)
    physics.reset(np.zeros((3, 1)), np.tile(EMPTY, (3, 1)))
    start = physics.state.copy()
    physics.step(np.ones((3, 4), np.float32), np.array([True, False, True]))
    np.testing.assert_array_equal(physics.state[1], start[1])
    assert (physics.state[[0, 2], 0] > start[[0, 2], 0] + 0.01).all()


def test_the_start_is_the_specified_one(env: SawyerManipulation8) -> None:
    physics = env.make_physics(3)
    physics.reset(np.zeros((3, 1)), np.stack([FULL, OPEN, EMPTY]))
    full, opened, empty = physics.state
    np.testing.assert_allclose(full[:3], [0.6, -0.15, -0.2], atol=2e-3)
    np.testing.assert_allclose(full[k.GRIPPER], 2 * t.STROKE, atol=1e-3)
    np.testing.assert_allclose(full[k.OBJECT_XYZ], [0.78, -0.12, -0.355], atol=2e-3)
    np.testing.assert_allclose(full[k.LEGO_XYZ], [0.59, 0.125, -0.355], atol=2e-3)
    np.testing.assert_allclose(opened[k.LEGO_XYZ], [0.75, 0.125, -0.355], atol=2e-3)
    np.testing.assert_allclose(full[k.BOTTOM_X], 0.6, atol=1e-3)
    np.testing.assert_allclose(opened[k.BOTTOM_X], 0.6 + t.TRAVEL, atol=2e-3)
    np.testing.assert_allclose(full[k.HANDLE_Y], -0.0125, atol=1e-3)
    assert not empty[k.GRIPPER + 1 : k.PUT_BACK].any()  # what is absent is zero
    obs = env.observe(physics.state)
    assert obs.shape == (3, 13)
    assert obs.dtype == np.float32


def test_a_full_action_moves_the_hand_about_three_centimetres(env: SawyerManipulation8) -> None:
    physics = env.make_physics(1)
    physics.reset(np.zeros((1, 1)), EMPTY[None])
    steps = []
    for _ in range(5):
        physics.step(np.array([[1.0, 0, 0, -1]], np.float32), np.ones(1, dtype=bool))
        steps.append(physics.state[0, 0] - physics.previous[0, 0])
    assert 0.015 < steps[0] < 0.03
    np.testing.assert_allclose(steps[2:], 0.032, atol=0.005)


def test_a_block_that_left_the_workspace_is_put_back(env: SawyerManipulation8) -> None:
    from pathlib import Path

    from smac_core.envs.sawyer.scene import Scene

    scene = Scene(Path(env.crew.folder), FULL)
    start = scene.reset()
    low = np.array(t.WORKSPACE_LOW) - t.MARGIN
    scene._call("resetBasePositionAndOrientation", scene.thing, (low - 0.1).tolist(), (0, 0, 0, 1))
    state = scene.step(np.zeros(4))
    assert state[k.PUT_BACK] == 1
    np.testing.assert_allclose(state[k.OBJECT_XYZ], start[k.OBJECT_XYZ], atol=5e-3)
    assert np.isfinite(state).all()
    assert scene.reset()[k.PUT_BACK] == 0
    scene.close()


SKILLS = {
    "move hand": (0, k.HAND, None),
    "open top drawer": (1, k.OPEN_TOP, lambda task: task[k.TOP_OPEN] == 0),
    "close top drawer": (1, k.CLOSE_TOP, None),
    "open bottom drawer": (2, k.OPEN_BOTTOM, lambda task: task[k.BOTTOM_OPEN] == 0),
    "close bottom drawer": (2, k.CLOSE_BOTTOM, None),
    "press button": (2, k.PRESS, None),
    "lift object": (4, k.LIFT, None),
    "object in tray": (5, k.IN_TRAY, lambda task: task[k.TRAY_PLACE] != task[k.OBJECT_PLACE]),
}


@pytest.mark.parametrize("name", SKILLS)
def test_a_skill_succeeds_in_nine_of_ten_random_scenes(env: SawyerManipulation8, name: str) -> None:
    only, behaviour, accept = SKILLS[name]
    assert k.BEHAVIOURS[behaviour] == name
    episodes = play(env, scenes(behaviour, 24, accept=accept), only)
    assert (episodes.reward == 0).any(axis=1).mean() >= 0.9


def test_the_block_is_taken_out_of_the_open_drawer(env: SawyerManipulation8) -> None:
    opened = scenes(k.HAND, 24, accept=lambda task: task[k.BOTTOM_OPEN] == 1)
    height = play(env, opened, 3).obs[:, :, 9]
    assert ((height > k.LIFT_Z).any(axis=1)).mean() >= 0.9


@pytest.mark.parametrize("gym_id", ["SMAC/SawyerManipulation-v0", "SMAC/SawyerManipulation8-v0"])
def test_gymnasium_finds_nothing_to_complain_about(gym_id: str) -> None:
    made = gymnasium.make(gym_id, render_mode="rgb_array")
    assert made.spec is not None
    assert made.spec.max_episode_steps == 50
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*alternative render modes.*")
        check_env(made.unwrapped)
    made.reset(seed=0, options={"task": FULL})
    picture = made.render()
    assert picture.shape == (240, 320, 3)  # type: ignore[union-attr]
    assert picture.dtype == np.uint8  # type: ignore[union-attr]
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 20  # type: ignore[union-attr]
    for _ in range(50):
        _, reward, terminated, truncated, _ = made.step(made.action_space.sample())
        assert reward in {0.0, -1.0}
        assert not terminated
    assert truncated
    made.close()


def test_the_two_drivers_agree_to_the_bit(env: SawyerManipulation8) -> None:
    made = gymnasium.make("SMAC/SawyerManipulation8-v0", task=FULL)
    obs, _ = made.reset(seed=0)
    physics = env.make_physics(2)
    physics.reset(np.zeros((2, 1)), np.stack([OPEN, FULL]))
    np.testing.assert_array_equal(obs, env.observe(physics.state)[1])
    for action in actions(20, 1):
        obs, *_ = made.step(action[0])
        physics.step(np.tile(action, (2, 1)), np.ones(2, dtype=bool))
        np.testing.assert_array_equal(obs, env.observe(physics.state)[1])
    made.close()


def test_pictures_show_each_behaviour_from_start_to_success(env: SawyerManipulation8) -> None:
    shown = pictures.show(env.make_physics(1), [k.HAND, k.OPEN_BOTTOM])
    assert list(shown) == ["move hand", "open bottom drawer"]
    for strip in shown.values():
        assert strip.shape == (5, 240, 320, 3)
        assert (strip[0] != strip[-1]).any(axis=2).mean() > 0.01
    for behaviour in ALL:
        task = pictures.scene_for(behaviour)
        k.check_task(task[0], "here")
        physics = env.make_physics(1)
        physics.reset(np.zeros((1, 1)), task)
        assert not k.achieved(physics.state, task)[0, behaviour]


def test_registration_needs_no_simulator() -> None:
    for definition in registration.NEED_PYBULLET:
        made = load_environment(definition)
        spec = gymnasium.spec(made.gym_id)
        assert (spec.max_episode_steps, spec.kwargs) == (50, {"definition": definition})


@pytest.mark.parametrize("workers", [0, 65, True])
def test_a_senseless_number_of_workers_is_refused(workers: int) -> None:
    with pytest.raises(ConfigError, match=r"not a number of workers: .*expected 1 to 64"):
        SawyerManipulation(workers=workers)


def test_without_pybullet_one_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(crews, "find_spec", lambda name: None)
    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(SmacError, match=r"PyBullet is not installed: .*pip install .*\[sawyer\]"):
        SawyerManipulation()
