"""Tasks of Sawyer Manipulation: how they are drawn, judged and refused; none needs PyBullet."""

from __future__ import annotations

import numpy as np
import pytest

from smac_core.envs.sawyer import skills
from smac_core.envs.sawyer import tables as t
from smac_core.envs.sawyer import tasks as k
from smac_core.envs.sawyer.environment import SawyerManipulation, SawyerManipulation8
from smac_core.errors import TaskError
from tests.smac_core.sawyer import ALL, EMPTY, FULL

THREE = SawyerManipulation.behaviours
CAP_REST = float(k.button_rest_z(FULL[None])[0])


def test_the_law_of_the_tasks_is_the_specified_one() -> None:
    drawn = k.draw_tasks(0, 20_000, THREE)
    se = 4 * np.sqrt(0.25 / len(drawn))
    share = [(drawn[:, k.BEHAVIOUR] == b).mean() for b in THREE]
    # 0.484, 0.305, 0.211 follow from presences of 0.75 and a uniform choice of what is feasible.
    np.testing.assert_allclose(share, [0.484, 0.305, 0.211], atol=se)
    np.testing.assert_allclose(drawn[:, k.BOTTOM : k.OBJECT + 1].mean(axis=0), 0.75, atol=se)
    assert abs((drawn[:, k.SIDE] == 1).mean() - 0.5) < se
    bottom = drawn[drawn[:, k.BOTTOM] == 1]
    assert abs(bottom[:, k.BOTTOM_OPEN].mean() - 0.5) < 2 * se
    assert not drawn[:, k.TOP_OPEN].any()  # only where closing it may be asked for
    assert k.draw_tasks(0, 2000, ALL)[:, k.TOP_OPEN].any()


def test_trays_and_objects_stand_where_there_is_room() -> None:
    for task in k.draw_tasks(1, 3000, ALL):
        k.check_task(task, "here")
        bottom, top = task[k.BOTTOM] == 1, task[k.TOP] == 1
        tray, thing = int(task[k.TRAY_PLACE]), int(task[k.OBJECT_PLACE])
        assert (tray >= 0) == (task[k.TRAY] == 1)
        assert (thing >= 0) == (task[k.OBJECT] == 1)
        if bottom:
            assert tray in (-1, k.BL, k.FL)
        elif top:
            assert tray in (-1, k.FL, k.FR)
        if bottom or top:
            assert thing in (-1, k.FL)
        elif task[k.BUTTON]:
            assert k.BR not in (tray, thing)


def test_a_longer_list_begins_with_the_shorter_one() -> None:
    long = k.draw_tasks(1337, 60, THREE)
    np.testing.assert_array_equal(long[:50], k.draw_tasks(1337, 50, THREE))
    assert len(np.unique(long, axis=0)) > 40
    assert not np.array_equal(long, k.draw_tasks(0, 60, THREE))


def state_of(**columns: float) -> np.ndarray:
    state = np.zeros(k.STATE_DIM)
    state[k.BOTTOM_X], state[k.HANDLE_Y], state[k.CAP_Z] = 0.6, -0.0125, CAP_REST
    state[:3], state[k.OBJECT_XYZ] = (0.6, -0.15, -0.2), (0.78, -0.12, -0.355)
    for name, value in columns.items():
        state[getattr(k, name)] = value
    return state


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (state_of(), {k.IN_TRAY}),  # the object lies in the tray from the start
        (state_of(HAND_XYZ=(0.675, 0.0, -0.11)), {k.HAND, k.IN_TRAY}),
        (state_of(HAND_XYZ=(0.675, 0.0, -0.191)), {k.IN_TRAY}),
        (state_of(HANDLE_Y=-0.0125 - 0.051), {k.OPEN_TOP, k.IN_TRAY}),
        (state_of(HANDLE_Y=-0.0125 - t.TRAVEL), {k.OPEN_TOP, k.IN_TRAY}),
        (state_of(HANDLE_Y=-0.0125 - 0.049), {k.IN_TRAY}),
        (state_of(BOTTOM_X=0.6 + 0.086), {k.OPEN_BOTTOM, k.IN_TRAY}),
        (state_of(CAP_Z=CAP_REST - 0.009), {k.PRESS, k.IN_TRAY}),
        (state_of(OBJECT_XYZ=(0.78, -0.12, -0.29)), {k.LIFT}),
        (state_of(OBJECT_XYZ=(0.6, -0.12, -0.355)), set()),
    ],
)
def test_success_by_hand(state: np.ndarray, expected: set[int]) -> None:
    judged = k.achieved(state[None], FULL[None])[0]
    assert set(np.flatnonzero(judged).tolist()) == expected


def test_closing_is_asked_for_only_where_something_starts_open() -> None:
    task = FULL.copy()
    task[[k.BOTTOM_OPEN, k.TOP_OPEN]] = 1.0
    judged = k.achieved(state_of()[None], task[None])[0]
    assert judged[k.CLOSE_TOP]
    assert judged[k.CLOSE_BOTTOM]
    opened = state_of(HANDLE_Y=-0.0125 - 0.06, BOTTOM_X=0.6 + 0.07)
    judged = k.achieved(opened[None], task[None])[0]
    assert not judged[[k.CLOSE_TOP, k.CLOSE_BOTTOM]].any()


def test_both_sides_are_mirror_images() -> None:
    left, right = FULL.copy(), FULL.copy()
    right[k.SIDE] = -1.0
    for opening in (0.0, 0.06):
        state = state_of(HANDLE_Y=-0.0125 - opening)
        mirrored = state.copy()
        mirrored[[1, 5, 8, k.HANDLE_Y]] *= -1.0
        np.testing.assert_array_equal(
            k.achieved(state[None], left[None]), k.achieved(mirrored[None], right[None])
        )


def broken(base: np.ndarray, **columns: float) -> np.ndarray:
    task = base.copy()
    for name, value in columns.items():
        task[getattr(k, name)] = value
    return task


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (broken(FULL, SIDE=0.0), "task parameter side is not a code: .* expected -1 or 1"),
        (broken(FULL, TRAY=0.5), "task parameter tray is not a code"),
        (
            broken(FULL, TRAY_PLACE=k.BR),
            "no room in the scene: tray_place: .* one of 0, 2",
        ),
        (broken(FULL, OBJECT_PLACE=-1), "no room in the scene: object_place"),
        (broken(EMPTY, TRAY_PLACE=k.FL), "no room in the scene: tray_place"),
        (broken(EMPTY, BEHAVIOUR=k.LIFT), "cannot hold the behaviour 'lift object'.* with object"),
        (
            broken(EMPTY, BEHAVIOUR=k.OPEN_BOTTOM),
            "cannot hold the behaviour 'open bottom drawer'.* with bottom_drawer, button, found",
        ),
        (broken(FULL, BEHAVIOUR=k.CLOSE_TOP), "cannot hold .*'close top drawer'.* top_open"),
    ],
)
def test_a_scene_that_cannot_be_or_cannot_hold_the_behaviour(
    task: np.ndarray, message: str
) -> None:
    with pytest.raises(TaskError, match=message):
        k.check_task(task, "task 3")


def test_scripts_choose_without_knowing_the_rewarded_behaviour() -> None:
    rng = np.random.default_rng(0)
    obs = rng.uniform(-0.3, 0.3, (40, 30, 13)).astype(np.float32) + np.float32(0.3)
    noise = rng.standard_normal((40, 30, 4))
    tasks = k.draw_tasks(2, 30, ALL)
    others = tasks.copy()
    others[:, k.BEHAVIOUR] = rng.permutation(others[:, k.BEHAVIOUR])
    assert not np.array_equal(tasks, others)
    rows = np.arange(30)
    one, other = (skills.Script(x, rows, place=True) for x in (tasks, others))
    for step in range(40):
        np.testing.assert_array_equal(
            one(rows, obs[step], noise[step]), other(rows, obs[step], noise[step])
        )
    assert one.skill == other.skill


def test_scripts_choose_among_what_is_there_and_differ_between_episodes() -> None:
    assert skills.options(EMPTY, place=True) == [0]
    assert skills.options(FULL, place=False) == [0, 1, 2, 4]
    assert skills.options(broken(FULL, BOTTOM_OPEN=1), place=True) == [0, 1, 2, 3, 4, 5]
    chosen = skills.Script(np.tile(FULL, (200, 1)), np.arange(200), place=False).skill
    counts = np.bincount(chosen, minlength=6)
    assert (counts[[0, 1, 2, 4]] > 25).all()
    assert counts[[3, 5]].sum() == 0


def test_a_noisy_action_stays_in_the_space() -> None:
    script = skills.Script(FULL[None], np.zeros(1), place=True)
    action = script(np.arange(1), np.zeros((1, 13), np.float32), np.full((1, 4), 30.0))
    assert np.abs(action).max() == 1.0


def test_the_rates_of_success_by_hand() -> None:
    pytest.importorskip("pybullet")
    env = SawyerManipulation8()
    reward = np.array([-1, 0, 0, 0, -1, -1, -1, -1], dtype=np.float32)
    tasks = np.stack([FULL, FULL, broken(FULL, BEHAVIOUR=k.PRESS)])
    found = env.summarise(reward, np.array([3, 3, 2]), tasks)
    assert found["success"] == {
        "episodes": 3.0,
        "per_transition": 3 / 8,
        "final_step": 1 / 3,
        "any_step": 2 / 3,
        "published": 0.46,
    }
    assert set(found["success_by_behaviour"]) == {"move hand", "press button"}  # type: ignore[call-overload]
