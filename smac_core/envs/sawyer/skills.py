"""Scripted skills: what the data are collected with. They see the observation, not the reward.

A script picks skills at random, without knowing which behaviour is rewarded, and picks again when
a skill says that it is done. Source: sawyer-env sections 4.1, 4.2 and 6.1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from smac_core.envs.sawyer import tables as t
from smac_core.envs.sawyer import tasks as k

NOISE = 0.1  # standard deviation of what is added to every action
OPEN, SHUT = -1.0, 1.0  # of the gripper
HIGH_TRAVEL = -0.105  # height of the hand above everything (m)
LOW_TRAVEL = -0.125
HIGHEST = -0.101  # just below the top of the workspace
PUSH = 0.6  # of a full action, down onto the button; more makes the arm slide off
GAIN = 1.0 / t.MOVE  # an offset of one full action is one metre times this
TRAY_RELEASE = -0.325  # height of the hand where it lets go above the tray's floor (m)
GRASP = 0.008  # height of the hand over the middle of what it grasps; lower, it drags (m)
CLOSE_STEPS, RELEASE_STEPS = 5, 3
SKILLS = (
    *("hand", "top drawer", "button", "block in drawer"),
    *("object to the middle", "object to the tray"),
)

Move = tuple[np.ndarray, float, bool]
"""Where to, as an offset of the hand (m); the gripper's command; whether the skill is done."""


@dataclass
class Memory:
    """What a skill remembers within an episode: its phase, and how long it is in it."""

    phase: str = "approach"
    count: int = 0

    def turn(self, phase: str) -> None:
        """Enter a phase."""
        self.phase, self.count = phase, 0


@dataclass(frozen=True)
class View:
    """One episode as a script sees it.

    Args:
        obs: ``[13]`` float64.
        task: ``[11]`` the record; its behaviour is never read.
    """

    obs: np.ndarray
    task: np.ndarray

    @property
    def hand(self) -> np.ndarray:
        """Position of the hand (m)."""
        return self.obs[k.HAND_XYZ]

    @property
    def side(self) -> float:
        """Sign of the side on which the drawers stand."""
        return float(self.task[k.SIDE])

    def has(self, column: int) -> bool:
        """Whether the scene has something."""
        return bool(self.task[column])


def over(view: View, target: np.ndarray, travel: float, tolerance: float) -> np.ndarray | None:
    """Go above a target: up where the hand is low and not yet there, then across.

    Args:
        view: The episode.
        target: ``[3]`` m.
        travel: Height at which it is safe to go across, m.
        tolerance: Horizontal distance that counts as there, m.

    Returns:
        The offset, or None where the hand is above the target.
    """
    offset = target - view.hand
    if np.abs(offset[:2]).max() < tolerance:
        return None
    if view.hand[2] < travel - 0.015:
        return np.array([0.0, 0.0, 1.0])
    return np.array([offset[0], offset[1], travel - view.hand[2]])


def move_hand(view: View, memory: Memory) -> Move:
    """Hold the hand at its goal; never done."""
    offset = np.asarray(t.HAND_GOAL) - view.hand
    if view.hand[2] < -0.2:
        offset = np.array([0.0, 0.0, 1.0])
    return offset, OPEN, False


def slide_top_drawer(view: View, memory: Memory) -> Move:
    """Straddle the bar with open fingers and pull; push where the drawer starts open."""
    side, opens = view.side, not view.has(k.TOP_OPEN)
    height = t.HIGH_DRAWER_Z if view.has(k.BOTTOM) else t.LOW_DRAWER_Z
    bar = np.array([t.DRAWER_X, view.obs[k.HANDLE_Y], height])
    opening = side * (side * (t.DRAWER_Y - t.BAR_AHEAD) - bar[1])
    finished = bool(opening > 0.12 if opens else opening < 0.02)
    if memory.phase == "approach":
        offset = over(view, bar, HIGH_TRAVEL, 0.012)
        if offset is not None:
            return offset, OPEN, False
        memory.turn("descend")
    if memory.phase == "descend":
        offset = bar - view.hand
        if offset[2] > -0.012:
            memory.turn("pull")
        elif np.abs(offset[:2]).max() > 0.025:
            memory.turn("approach")
        return offset, OPEN, False
    pull = np.array([0.0, -side if opens else side, 0.0])
    pull[0], pull[2] = t.DRAWER_X - view.hand[0], height - view.hand[2]
    memory.count += 1
    return pull, OPEN, finished or memory.count > 30


def press_button(view: View, memory: Memory) -> Move:
    """Push the cap down with shut fingers."""
    cap = np.array([t.DRAWER_X, t.DRAWER_Y * view.side, view.obs[k.CAP_Z]])
    pressed = k.button_rest_z(view.task[None])[0] - cap[2] > t.FIRE_DEPTH
    if memory.phase == "press" and np.abs(cap - view.hand)[:2].max() > 0.025:
        memory.turn("approach")  # it slid off
    offset = over(view, cap, HIGHEST, 0.012) if memory.phase == "approach" else None
    if offset is not None:
        return offset, SHUT, bool(pressed)
    memory.turn("press")
    return np.append((cap - view.hand)[:2], -PUSH / GAIN), SHUT, bool(pressed)


@dataclass(frozen=True)
class Carry:
    """What a carrying skill is about.

    Args:
        thing: ``[3]`` where the block is, m.
        goal: ``[2]`` where to let it go, m.
        release_z: Height of the hand there, m.
    """

    thing: np.ndarray
    goal: np.ndarray
    release_z: float

    def grasp(self, view: View) -> np.ndarray:
        """Offset of the hand to where it grasps the block (m)."""
        offset: np.ndarray = self.thing + np.array([0.0, 0.0, GRASP]) - view.hand
        return offset

    def lost(self, view: View) -> bool:
        """Whether the block has slipped from the hand."""
        return bool(np.linalg.norm(self.thing - view.hand) > 0.06)

    def across(self, view: View, height: float) -> np.ndarray:
        """Offset of the hand to a height over the goal (m)."""
        return np.append(self.goal - view.hand[:2], height - view.hand[2])


def _approach(view: View, memory: Memory, job: Carry) -> Move:
    offset = over(view, view.hand + job.grasp(view), LOW_TRAVEL, 0.015)
    if offset is not None:
        return offset, OPEN, False
    memory.turn("descend")
    return _descend(view, memory, job)


def _descend(view: View, memory: Memory, job: Carry) -> Move:
    offset = job.grasp(view)
    if np.abs(offset).max() < 0.01 or memory.count > 20:
        memory.turn("close")
    elif np.abs(offset[:2]).max() > 0.03:
        memory.turn("approach")
    return offset, OPEN, False


def _close(view: View, memory: Memory, job: Carry) -> Move:
    if memory.count > CLOSE_STEPS:
        memory.turn("lift")
    return job.grasp(view), SHUT, False


def _lift(view: View, memory: Memory, job: Carry) -> Move:
    if job.lost(view):
        memory.turn("approach")
    elif view.hand[2] > LOW_TRAVEL - 0.01:
        memory.turn("across")
    return np.array([0.0, 0.0, 1.0]), SHUT, False


def _across(view: View, memory: Memory, job: Carry) -> Move:
    offset = job.across(view, LOW_TRAVEL)
    if job.lost(view):
        memory.turn("approach")
    elif np.abs(offset[:2]).max() < 0.02:
        memory.turn("lower")
    return offset, SHUT, False


def _lower(view: View, memory: Memory, job: Carry) -> Move:
    offset = job.across(view, job.release_z)
    if offset[2] > -0.015 or memory.count > 15:
        memory.turn("release")
    return offset, SHUT, False


def _release(view: View, memory: Memory, job: Carry) -> Move:
    if memory.count > RELEASE_STEPS:
        memory.turn("leave")
    return np.zeros(3), OPEN, False


def _leave(view: View, memory: Memory, job: Carry) -> Move:
    rest = LOW_TRAVEL - view.hand[2]
    return np.array([0.0, 0.0, rest]), OPEN, bool(rest < 0.02)


PHASES: dict[str, Callable[[View, Memory, Carry], Move]] = {
    "approach": _approach,
    "descend": _descend,
    "close": _close,
    "lift": _lift,
    "across": _across,
    "lower": _lower,
    "release": _release,
    "leave": _leave,
}


def carry(view: View, memory: Memory, job: Carry) -> Move:
    """Grasp a block, carry it, let it go and rise; begin again where it slips.

    Args:
        view: The episode.
        memory: Of the skill.
        job: What to carry where.

    Returns:
        The move.
    """
    memory.count += 1
    return PHASES[memory.phase](view, memory, job)


MIDDLE = np.array(t.HAND_GOAL[:2])


def carry_object(view: View, memory: Memory) -> Move:
    """Carry the object to the middle of the workspace and drop it."""
    return carry(view, memory, Carry(view.obs[k.OBJECT_XYZ], MIDDLE, LOW_TRAVEL))


def carry_lego(view: View, memory: Memory) -> Move:
    """Carry the block out of the bottom drawer to the middle and drop it."""
    return carry(view, memory, Carry(view.obs[k.LEGO_XYZ], MIDDLE, LOW_TRAVEL))


def place_in_tray(view: View, memory: Memory) -> Move:
    """Carry the object into the tray and let it go just above the table."""
    goal = k.place_xy(view.task[None], k.TRAY_PLACE)[0]
    return carry(view, memory, Carry(view.obs[k.OBJECT_XYZ], goal, TRAY_RELEASE))


RULES: tuple[Callable[[View, Memory], Move], ...] = (
    *(move_hand, slide_top_drawer, press_button, carry_lego),
    *(carry_object, place_in_tray),
)


def options(task: np.ndarray, *, place: bool) -> list[int]:
    """List the skills that make sense in a scene.

    Args:
        task: ``[11]``; its behaviour is never read.
        place: Whether the object may also be put into the tray.

    Returns:
        Numbers in SKILLS, the hand first.
    """
    present = {
        1: task[k.TOP],
        2: task[k.BUTTON],
        3: task[k.BOTTOM] and task[k.BOTTOM_OPEN],
        4: task[k.OBJECT],
        5: place and task[k.OBJECT] and task[k.TRAY],
    }
    return [0, *(skill for skill, there in present.items() if there)]


class Script:
    """Acts in a batch of episodes.

    Args:
        tasks: ``[N, 11]``.
        seeds: ``[N]`` one an episode, of the choice of skills.
        place: Whether the object may also be put into the tray.
        only: One skill for every episode, in place of a choice.
    """

    def __init__(
        self, tasks: np.ndarray, seeds: np.ndarray, *, place: bool, only: int | None = None
    ) -> None:
        self.tasks = tasks
        self._rngs = [np.random.default_rng(int(seed)) for seed in seeds]
        self.left = [[only] if only is not None else options(r, place=place) for r in tasks]
        self.skill = [self._pick(row) for row in range(len(tasks))]
        self.memory = [Memory() for _ in tasks]

    def _pick(self, row: int) -> int:
        return self.left[row][int(self._rngs[row].integers(len(self.left[row])))]

    def __call__(self, rows: np.ndarray, obs: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """Act once in some episodes.

        Args:
            rows: ``[M]`` which.
            obs: ``[M, 13]``.
            noise: ``[M, 4]`` standard normal.

        Returns:
            ``[M, 4]`` float64 in [-1, 1].
        """
        seen = obs.astype(np.float64)
        action = np.array([self._act(int(row), seen[i]) for i, row in enumerate(rows)])
        clipped: np.ndarray = np.clip(action + NOISE * noise, -1.0, 1.0)
        return clipped

    def _act(self, row: int, obs: np.ndarray) -> Sequence[float]:
        view = View(obs, self.tasks[row])
        offset, gripper, done = RULES[self.skill[row]](view, self.memory[row])
        if done and len(self.left[row]) > 1:
            self.left[row].remove(self.skill[row])
            self.skill[row], self.memory[row] = self._pick(row), Memory()
        return [*np.clip(GAIN * offset, -1.0, 1.0), gripper]
