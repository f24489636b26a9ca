"""Tasks: a scene and a desired behaviour as one row of numbers; how they are drawn and judged."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from smac_core.envs.sawyer import tables as t
from smac_core.errors import TaskError

FIELDS = (
    *("side", "bottom_open", "top_open"),
    *("bottom_drawer", "top_drawer", "button", "tray", "object"),
    *("tray_place", "object_place", "behaviour"),
)
(SIDE, BOTTOM_OPEN, TOP_OPEN, BOTTOM, TOP, BUTTON, TRAY, OBJECT, TRAY_PLACE, OBJECT_PLACE,
 BEHAVIOUR) = range(len(FIELDS))  # fmt: skip
LOW = (-1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0, -1.0, 0.0)
HIGH = (1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 3.0, 3.0, 7.0)
PLACES = ("back left", "back right", "front left", "front right")  # left: where the hand starts
BL, BR, FL, FR = range(4)

# What may be asked for; the main experiment has the first three, Appendix B all eight.
BEHAVIOURS = (
    *("move hand", "open top drawer", "open bottom drawer", "close top drawer"),
    *("close bottom drawer", "press button", "lift object", "object in tray"),
)
(HAND, OPEN_TOP, OPEN_BOTTOM, CLOSE_TOP, CLOSE_BOTTOM, PRESS, LIFT, IN_TRAY) = range(8)
# Which of the scene each behaviour needs; all of the columns must be 1.
NEEDS: tuple[tuple[int, ...], ...] = (
    (), (TOP,), (BOTTOM, BUTTON), (TOP, TOP_OPEN), (BOTTOM, BUTTON, BOTTOM_OPEN), (BUTTON,),
    (OBJECT,), (OBJECT, TRAY),
)  # fmt: skip
PRESENCE = 0.75  # section 1.3
NUM_DRAWS = 12  # uniform numbers a task, so that a longer list begins with the shorter one

# Columns of a state: the 13 of the observation, then what is hidden.
HAND_XYZ, GRIPPER, OBJECT_XYZ, LEGO_XYZ = slice(0, 3), 3, slice(4, 7), slice(7, 10)
BOTTOM_X, HANDLE_Y, CAP_Z, FIRED, PUT_BACK = 10, 11, 12, 13, 14
OBS_DIM, STATE_DIM = 13, 15

# Tolerances of success, section 3.
HAND_TOLERANCE = 0.08
TOP_GOAL, BOTTOM_GOAL, DRAWER_TOLERANCE = 0.115, 0.15, 0.065
SHUT_TOLERANCE = 0.05  # of the top drawer: the complement of open
PRESS_DEPTH = 0.008
LIFT_Z = -0.30
TRAY_TOLERANCE, TRAY_Z = 0.07, -0.32


def tray_places(bottom: bool, top: bool, button: bool) -> tuple[int, ...]:
    """List where a tray may stand, given what else is in the scene."""
    if bottom:
        return (BL, FL)
    if top:
        return (FL, FR)
    return (BL, FL, FR) if button else (BL, BR, FL, FR)


def object_places(drawer: bool, button: bool) -> tuple[int, ...]:
    """List where the graspable object may lie, given what else is in the scene."""
    if drawer:
        return (FL,)
    return (BL, FL, FR) if button else (BL, BR, FL, FR)


def feasible(task: np.ndarray, behaviours: Sequence[int]) -> list[int]:
    """List the behaviours that a scene can hold.

    Args:
        task: ``[11]``; its behaviour does not count.
        behaviours: Which ones to choose from.

    Returns:
        Some of them, in order.
    """
    return [b for b in behaviours if all(task[column] == 1.0 for column in NEEDS[b])]


def _pick(choices: Sequence[int], uniform: float) -> int:
    return choices[min(int(uniform * len(choices)), len(choices) - 1)]


def draw_task(draws: np.ndarray, behaviours: Sequence[int]) -> np.ndarray:
    """Make one task of uniform random numbers.

    Args:
        draws: ``[12]`` uniform in [0, 1).
        behaviours: Which ones may be asked for.

    Returns:
        ``[11]`` the record, in the order of FIELDS.

    Source: sawyer-env section 1.3.
    """
    task = np.zeros(len(FIELDS))
    task[SIDE] = 1.0 if draws[0] < 0.5 else -1.0
    present = draws[2:7] < PRESENCE
    task[BOTTOM : OBJECT + 1] = present
    bottom, top, button, tray, thing = (bool(p) for p in present)
    task[BOTTOM_OPEN] = bottom and draws[1] < 0.5
    task[TRAY_PLACE] = _pick(tray_places(bottom, top, button), draws[7]) if tray else -1.0
    if CLOSE_TOP in behaviours:
        # Open, it hangs over the back left place, and nothing could be put into a tray there.
        task[TOP_OPEN] = top and task[TRAY_PLACE] != BL and draws[10] < 0.5
    task[OBJECT_PLACE] = _pick(object_places(bottom or top, button), draws[8]) if thing else -1.0
    task[BEHAVIOUR] = _pick(feasible(task, behaviours), draws[9])
    return task


def draw_tasks(seed: int, num: int, behaviours: Sequence[int]) -> np.ndarray:
    """Draw tasks one after another, so that a longer list begins with the shorter one.

    Args:
        seed: Of a generator of their own.
        num: How many.
        behaviours: Which ones may be asked for.

    Returns:
        ``[num, 11]`` float64.
    """
    draws = np.random.default_rng(seed).uniform(size=(num, NUM_DRAWS))
    return np.array([draw_task(row, behaviours) for row in draws]).reshape(num, len(FIELDS))


def check_task(task: np.ndarray, where: str) -> None:
    """Refuse a record that no scene can be built from, or whose scene cannot hold its behaviour.

    Args:
        task: ``[11]``, every number within its range.
        where: Names the task in an error.

    Raises:
        TaskError: What is wrong with it.
    """
    fix = "make tasks.json again with `python -m pipeline.tasks`"
    wrong = task != np.round(task)
    wrong[SIDE] |= task[SIDE] == 0.0
    if wrong.any():
        column = int(np.argmax(wrong))
        raise TaskError(
            f"task parameter {FIELDS[column]} is not a code",
            where=where,
            expected="-1 or 1" if column == SIDE else "a whole number",
            found=task[column],
            fix=fix,
        )
    bottom, top, button, tray, thing = (bool(p) for p in task[BOTTOM : OBJECT + 1])
    for column, present, places in (
        (TRAY_PLACE, tray, tray_places(bottom, top, button)),
        (OBJECT_PLACE, thing, object_places(bottom or top, button)),
    ):
        allowed = places if present else (-1,)
        if task[column] not in allowed:
            raise TaskError(
                f"no room in the scene: {FIELDS[column]}",
                where=where,
                expected=f"one of {', '.join(map(str, allowed))}",
                found=int(task[column]),
                fix=fix,
            )
    wanted = int(task[BEHAVIOUR])
    lacking = [FIELDS[column] for column in NEEDS[wanted] if task[column] != 1.0]
    if lacking:
        raise TaskError(
            f"the scene cannot hold the behaviour '{BEHAVIOURS[wanted]}'",
            where=where,
            expected=f"a scene with {', '.join(lacking)}",
            found="none",
            fix=fix,
        )


def closed_handle_y(side: np.ndarray) -> np.ndarray:
    """Return where the top drawer's bar is when the drawer is shut (m)."""
    shut: np.ndarray = side * (t.DRAWER_Y - t.BAR_AHEAD)
    return shut


def top_opening(state: np.ndarray, task: np.ndarray) -> np.ndarray:
    """Return how far the top drawer is open (m), ``[N]``."""
    side: np.ndarray = task[:, SIDE]
    opening: np.ndarray = side * (closed_handle_y(side) - state[:, HANDLE_Y])
    return opening


def bottom_opening(state: np.ndarray) -> np.ndarray:
    """Return how far the bottom drawer is open (m), ``[N]``."""
    opening: np.ndarray = state[:, BOTTOM_X] - t.DRAWER_X
    return opening


def button_rest_z(task: np.ndarray) -> np.ndarray:
    """Return the height of a cap that nobody has pressed (m), ``[N]``."""
    drawers = (task[:, BOTTOM] + task[:, TOP]).astype(np.int64)
    above = 0.5 * (t.BUTTON_BASE[2] + t.CAP_HEIGHT)
    rest: np.ndarray = np.asarray(t.BUTTON_Z)[drawers] + above
    return rest


def place_xy(task: np.ndarray, column: int) -> np.ndarray:
    """Return where the tray or the object stands at the start (m), ``[N, 2]``."""
    table = np.asarray(t.TRAY_XY if column == TRAY_PLACE else t.OBJECT_XY)
    xy: np.ndarray = table[np.maximum(task[:, column], 0.0).astype(np.int64)]
    xy[:, 1] *= task[:, SIDE]
    return xy


def achieved(state: np.ndarray, task: np.ndarray) -> np.ndarray:
    """Judge all behaviours in some states.

    Args:
        state: ``[N, 15]``.
        task: ``[N, 11]``.

    Returns:
        ``[N, 8]`` bool, False where the scene cannot hold the behaviour.

    Source: sawyer-env section 3, the recommended column.
    """
    hand = np.linalg.norm(state[:, HAND_XYZ] - np.asarray(t.HAND_GOAL), axis=1)
    top, bottom, thing = top_opening(state, task), bottom_opening(state), state[:, OBJECT_XYZ]
    from_tray = np.linalg.norm(thing[:, :2] - place_xy(task, TRAY_PLACE), axis=1)
    judged = np.stack(
        [
            hand < HAND_TOLERANCE,
            np.abs(top - TOP_GOAL) < DRAWER_TOLERANCE,
            np.abs(bottom - BOTTOM_GOAL) < DRAWER_TOLERANCE,
            top < SHUT_TOLERANCE,
            bottom < DRAWER_TOLERANCE,
            button_rest_z(task) - state[:, CAP_Z] > PRESS_DEPTH,
            thing[:, 2] > LIFT_Z,
            (from_tray < TRAY_TOLERANCE) & (thing[:, 2] < TRAY_Z),
        ],
        axis=1,
    )
    possible = [(task[:, list(columns)] == 1.0).all(axis=1) for columns in NEEDS]
    result: np.ndarray = judged & np.stack(possible, axis=1)
    return result
