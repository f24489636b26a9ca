"""Strips of pictures: a scripted skill at work, one strip a behaviour."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from smac_core.envs.sawyer import tasks as k
from smac_core.envs.sawyer.physics import SawyerPhysics
from smac_core.envs.sawyer.skills import SKILLS, Script

# Which skill shows which behaviour.
SHOWN_BY = {
    k.HAND: "hand",
    k.OPEN_TOP: "top drawer",
    k.OPEN_BOTTOM: "button",
    k.CLOSE_TOP: "top drawer",
    k.CLOSE_BOTTOM: "button",
    k.PRESS: "button",
    k.LIFT: "object to the middle",
    k.IN_TRAY: "object to the tray",
}
LONGEST, EVERY, FRAMES, MORE = 75, 3, 5, 4  # steps; steps; frames a strip; steps after success


def show(physics: SawyerPhysics, behaviours: Sequence[int]) -> dict[str, np.ndarray]:
    """Let the scripts show behaviours, without noise.

    Args:
        physics: One simulator.
        behaviours: Which.

    Returns:
        By name of the behaviour ``[5, 240, 320, 3]`` uint8, from the start to just after success.
    """
    return {k.BEHAVIOURS[b]: _strip(physics, b) for b in behaviours}


def scene_for(behaviour: int) -> np.ndarray:
    """Make a full scene in which a behaviour is not yet achieved.

    Args:
        behaviour: Which.

    Returns:
        ``[1, 11]`` the record.
    """
    task = np.ones((1, len(k.FIELDS)))
    task[0, k.BOTTOM_OPEN] = behaviour == k.CLOSE_BOTTOM
    task[0, k.TOP_OPEN] = behaviour == k.CLOSE_TOP
    task[0, [k.TRAY_PLACE, k.OBJECT_PLACE]] = k.BL, k.FL
    if behaviour == k.CLOSE_TOP:
        task[0, k.TRAY_PLACE] = k.FL
    task[0, k.BEHAVIOUR] = behaviour
    return task


def _strip(physics: SawyerPhysics, behaviour: int) -> np.ndarray:
    task, one = scene_for(behaviour), np.ones(1, dtype=bool)
    skill = SKILLS.index(SHOWN_BY[behaviour])
    script = Script(task, np.zeros(1), place=True, only=skill)
    physics.reset(np.zeros((1, 1)), task)
    frames, left = [physics.picture()], MORE
    for step in range(1, LONGEST + 1):
        obs = physics.state[:, : k.OBS_DIM].astype(np.float32)
        action = script(np.arange(1), obs, np.zeros((1, 4)))
        physics.step(action.astype(np.float32), one)
        if step % EVERY == 0:
            frames.append(physics.picture())
        left -= bool(k.achieved(physics.state, task)[0, behaviour])
        if left == 0:
            break
    frames.append(physics.picture())
    chosen = np.linspace(0, len(frames) - 1, FRAMES).round().astype(np.int64)
    strip: np.ndarray = np.stack(frames)[chosen]
    return strip
