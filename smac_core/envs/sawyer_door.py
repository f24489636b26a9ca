"""A gripper that must open a door to a hidden angle by its handle.

Source: baselines.md section 4.1; the model is this project's own. Angles grow as the door opens
towards the base.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from smac_core.envs.hand import HAND, POSE, STEP_LENGTH, LedHand, distance, finger_centre

HAND_START = np.array([0.0, 0.4, 0.1])  # m
ANGLE = POSE  # of a state row
SEEN_HAND, SEEN_HANDLE = slice(0, 3), slice(3, 6)  # of an observation
HINGE, HEIGHT = np.array([-0.2, 1.0]), 0.3  # m, of the hinge's axis, of the handle
GRASP_ALONG, GRASP_OUT = 0.28, 0.11  # m from the hinge, along the door and out of it
NEAR = 0.1  # m between handle and fingers, within which the door's angle is paid
PAY = 10.0  # a radian
SUCCESS, AJAR = 0.05, 0.15  # rad from the target
HAND_MASS, FIRM = 4.0, 0.9999  # kg; strong enough for the hinge's damping
REWARDS = ("gated", "dense")
# The handle is an L: out of the door, then along it towards the hinge; fingers fit behind it.
DOOR_MJCF = """
    <body name="door" pos="-0.2 1 0.3">
      <joint name="hinge" type="hinge" axis="0 0 -1" range="-3 3" damping="100"/>
      <geom name="panel" class="thing" type="box" size="0.2 0.01 0.15" pos="0.2 0 0" mass="20"
        rgba="0.55 0.4 0.25 1"/>
      <geom name="post" class="thing" type="box" size="0.01 0.05 0.01" pos="0.35 -0.06 0"
        mass="0.1" rgba="0.8 0.8 0.85 1" priority="1" solimp="0.9999 0.9999 0.001"/>
      <geom name="bar" class="thing" type="box" size="0.07 0.01 0.01" pos="0.28 -0.11 0"
        mass="0.1" rgba="0.8 0.8 0.85 1" priority="1" solimp="0.9999 0.9999 0.001"/>
    </body>
"""
# The script's way, in metres: over the bar, down behind it, and along with the door.
OVER, DOWN, BEHIND, CLEAR, HELD, PULLING = 0.38, 0.32, 0.07, 0.085, 0.115, 0.11
CLOSE_ENOUGH, LEAD, EASE = 0.03, 0.1, 0.8  # rad, rad, a share of what is left


class SawyerDoor(LedHand):
    """Open a door to an angle θ*, which is hidden.

    Args:
        reward: ``gated``: 10 θ up to θ*, from there max(0, 10 (2 θ* − θ)), while the fingers are
            within 0.1 m of the handle, else 0; ``dense``: the same wherever the fingers are, minus
            their distance from the handle (ours, for learning an expert).
    """

    env_id = "sawyer-door"
    gym_id = "SMAC/SawyerDoor-v0"
    initial_dim = POSE + 1 + 7
    horizon = 100
    task_fields = ("target_angle",)
    task_low = (0.04,)
    task_high = (0.97,)
    not_in_rows = None
    measure_units: ClassVar[Mapping[str, str]] = {
        "angle_error": "rad",
        "success": "of 1",
        "near": "of 1",
        "opened": "rad",
    }

    hand_start, hand_mass, firm = HAND_START, HAND_MASS, FIRM
    things = DOOR_MJCF
    rewards = REWARDS

    def __init__(self, reward: str = "gated") -> None:
        super().__init__(reward)

    def observe(self, state: np.ndarray) -> np.ndarray:
        """Observe where the hand is (3) and where the middle of the handle's bar is (3)."""
        return np.concatenate([state[:, HAND], handle(state[:, ANGLE])], axis=1).astype(np.float32)

    def reward(
        self, before: np.ndarray, action: np.ndarray, after: np.ndarray, task: np.ndarray
    ) -> np.ndarray:
        """What the door's angle is worth."""
        angle = after[:, ANGLE]
        return self._worth(distance(handle(angle), finger_centre(after[:, HAND])), angle, task)

    def _worth(self, reach: np.ndarray, angle: np.ndarray, task: np.ndarray) -> np.ndarray:
        wanted = task[:, 0]
        beyond = np.maximum(0.0, PAY * (2.0 * wanted - angle))
        worth: np.ndarray = np.where(angle <= wanted, PAY * angle, beyond)
        return worth - reach if self.variant == "dense" else np.where(reach < NEAR, worth, 0.0)

    def reward_of_rows(
        self,
        obs: np.ndarray,
        action: np.ndarray,
        next_obs: np.ndarray,
        task: np.ndarray,
        first: np.ndarray,
    ) -> np.ndarray:
        """Compute any task's reward: where the handle is tells the door's angle."""
        seen = next_obs.astype(np.float64)
        grasp = seen[:, SEEN_HANDLE]
        reach = distance(grasp, finger_centre(seen[:, SEEN_HAND]))
        return self._worth(reach, angle_of(grasp), task)

    def position(self, state: np.ndarray) -> np.ndarray:
        """Return x and y of the handle (m)."""
        return handle(state[:, ANGLE])[:, :2]

    def measure(self, path: np.ndarray, length: np.ndarray, task: np.ndarray) -> np.ndarray:
        """Measure how far from the target the door ends, if that is near, and its angle."""
        angle = angle_of(path[np.arange(len(path)), length].astype(np.float64))
        missed = np.abs(angle - task[:, 0])
        return np.stack([missed, missed < SUCCESS, missed < AJAR, angle], axis=1)

    def marks(self, task: np.ndarray) -> np.ndarray:
        """Mark where the handle is at the target angle."""
        return handle(task[:, 0])[:, None]

    def scripted_action(self, obs: np.ndarray, task: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """Reach over the bar, come down behind it, and lead the door until it is open enough.

        The noise, a tenth as large as the drive, varies the demonstrations.
        """
        hand, angle = obs[:, :3].astype(np.float64), angle_of(obs[:, 3:6].astype(np.float64))
        out = _out_of_door(hand, angle)
        height = hand[:, 2]
        caught = out < np.where(height < DOWN + 0.015, HELD, CLEAR)
        left = task[:, 0] - angle
        led = angle + np.clip(EASE * left, 0.0, LEAD)
        wanted = _beside_door(angle, np.where(height < OVER - 0.015, 0.16, BEHIND), OVER)
        wanted[caught] = _beside_door(angle, np.full(len(obs), BEHIND), DOWN)[caught]
        leads = caught & (height < DOWN + 0.01)
        wanted[leads] = _beside_door(led, np.full(len(obs), PULLING), DOWN)[leads]
        drive = (wanted - hand) / STEP_LENGTH
        drive /= np.maximum(np.abs(drive).max(axis=1, keepdims=True), 1.0)
        drive[leads & (left < CLOSE_ENOUGH)] = 0.0
        action: np.ndarray = np.clip(drive + 0.1 * noise, -1.0, 1.0).astype(np.float32)
        return action


def _axes(angle: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return unit vectors ``[N, 2]`` along the door and out of it, towards the base when shut."""
    along = np.stack([np.cos(angle), -np.sin(angle)], axis=1)
    return along, np.stack([-np.sin(angle), -np.cos(angle)], axis=1)


def handle(angle: np.ndarray) -> np.ndarray:
    """Find the middle of the handle's bar.

    Args:
        angle: ``[N]`` of the door (rad).

    Returns:
        ``[N, 3]`` (m).
    """
    along, out = _axes(angle)
    place = HINGE + GRASP_ALONG * along + GRASP_OUT * out
    return np.insert(place, 2, HEIGHT, axis=1)


def angle_of(grasp: np.ndarray) -> np.ndarray:
    """Find the door's angle from where its handle is.

    Args:
        grasp: ``[N, 2 or 3]`` (m).

    Returns:
        ``[N]`` rad, within ± π.
    """
    x, y = grasp[:, 0] - HINGE[0], grasp[:, 1] - HINGE[1]
    angle: np.ndarray = np.arctan2(
        -GRASP_OUT * x - GRASP_ALONG * y, GRASP_ALONG * x - GRASP_OUT * y
    )
    return angle


def _out_of_door(place: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Measure how far points ``[N, 3]`` are out of the door's plane, ``[N]`` (m)."""
    _, out = _axes(angle)
    offset = place[:, :2] - HINGE
    far: np.ndarray = offset[:, 0] * out[:, 0] + offset[:, 1] * out[:, 1]
    return far


def _beside_door(angle: np.ndarray, out: np.ndarray, height: float) -> np.ndarray:
    """Find points ``[N, 3]`` level with the handle's bar, so far out of the door, at a height."""
    along, away = _axes(angle)
    place = HINGE + GRASP_ALONG * along + out[:, None] * away
    return np.insert(place, 2, height, axis=1)
