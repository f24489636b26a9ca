"""A gripper that must push a cube to a hidden place on a table.

Source: baselines.md section 4.1; the model is this project's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from smac_core.envs.hand import HAND, POSE, STEP_LENGTH, LedHand, distance, finger_centre

HAND_START, CUBE_START = np.array([0.0, 0.4, 0.05]), np.array([0.0, 0.52, 0.02])  # m
CUBE = slice(POSE, POSE + 3)  # of a state row
SEEN_HAND, SEEN_CUBE = slice(0, 3), slice(3, 6)  # of an observation
PROGRESS = 100.0  # paid for every metre by which the cube is nearer to the goal than at the start
SUCCESS, NEAR = 0.05, 0.1  # m from the goal
REWARDS = ("push", "reach-distance", "distance", "sparse")
HAND_MASS, FIRM = 0.2, 0.9  # kg; light and yielding: pressed on the table, the cube stays whole
# The cube's inertia is so large that it slides and never turns.
CUBE_MJCF = """
    <body name="cube" pos="0 0.52 0.02">
      <freejoint/>
      <inertial pos="0 0 0" mass="0.01" diaginertia="1000 1000 1000"/>
      <geom name="cube" class="thing" type="box" size="0.02 0.02 0.02" rgba="0.1 0.35 0.8 1"
        priority="1" solimp="0.98 0.98 0.001"/>
    </body>
"""
# m, along y and x: how near the hand must be for the script to take the cube along.
TOUCHING, ASIDE = 0.033, 0.025


class SawyerPush(LedHand):
    """Push a cube to a goal on the table; d is its distance from it, d₀ that at the start.

    Args:
        reward: ``push``: −‖cube − fingers‖ + 100 max(0, d₀ − d); ``reach-distance``:
            −‖cube − fingers‖ − d; ``distance``: −d; ``sparse``: −d within 0.05 m of the goal,
            else −d₀.
    """

    env_id = "sawyer-push"
    gym_id = "SMAC/SawyerPush-v0"
    initial_dim = 2 * POSE + 12
    horizon = 50
    task_fields = ("goal_x", "goal_y")
    task_low = (-0.09, 0.70)
    task_high = (0.10, 0.80)
    not_in_rows: ClassVar[str | None] = None
    measure_units: ClassVar[Mapping[str, str]] = {
        "goal_distance": "m",
        "success": "of 1",
        "near": "of 1",
        "distance": "m",
    }

    hand_start, hand_mass, firm = HAND_START, HAND_MASS, FIRM
    things = CUBE_MJCF
    rewards = REWARDS

    def __init__(self, reward: str = "push") -> None:
        super().__init__(reward)

    def observe(self, state: np.ndarray) -> np.ndarray:
        """Observe where the hand is (3) and where the cube is (3)."""
        return np.concatenate([state[:, HAND], state[:, CUBE]], axis=1).astype(np.float32)

    def reward(
        self, before: np.ndarray, action: np.ndarray, after: np.ndarray, task: np.ndarray
    ) -> np.ndarray:
        """What the cube's way to the goal and the hand's way to the cube are worth."""
        return self._worth(after[:, HAND], after[:, CUBE], task)

    def _worth(self, hand: np.ndarray, cube: np.ndarray, task: np.ndarray) -> np.ndarray:
        reach = distance(cube, finger_centre(hand))
        away = distance(cube[:, :2], task)
        first = distance(np.broadcast_to(CUBE_START[:2], task.shape), task)
        worth: np.ndarray
        if self.variant == "push":
            worth = PROGRESS * np.maximum(0.0, first - away) - reach
        elif self.variant == "sparse":
            worth = -np.where(away < SUCCESS, away, first)
        else:
            worth = -away if self.variant == "distance" else -reach - away
        return worth

    def reward_of_rows(
        self,
        obs: np.ndarray,
        action: np.ndarray,
        next_obs: np.ndarray,
        task: np.ndarray,
        first: np.ndarray,
    ) -> np.ndarray:
        """Compute any task's reward: it depends on the two observed places."""
        seen = next_obs.astype(np.float64)
        return self._worth(seen[:, SEEN_HAND], seen[:, SEEN_CUBE], task)

    def position(self, state: np.ndarray) -> np.ndarray:
        """Return x and y of the cube (m)."""
        return state[:, CUBE][:, :2].copy()

    def forward(self, task: np.ndarray) -> np.ndarray:
        """Return the way from the cube's start to the goal as a unit vector."""
        way = task - CUBE_START[:2]
        ahead: np.ndarray = way / np.hypot(way[:, 0], way[:, 1])[:, None]
        return ahead

    def measure(self, path: np.ndarray, length: np.ndarray, task: np.ndarray) -> np.ndarray:
        """Measure how far from the goal the cube ends, if that is near, and how far it came."""
        end = path[np.arange(len(path)), length].astype(np.float64)
        missed = distance(end, task)
        return np.stack(
            [missed, missed < SUCCESS, missed < NEAR, distance(end, path[:, 0])], axis=1
        )

    def marks(self, task: np.ndarray) -> np.ndarray:
        """Mark the goal on the table."""
        return np.insert(task, 2, 0.0, axis=1)[:, None]

    def scripted_action(self, obs: np.ndarray, task: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """Go to the side of the cube, then take it along: friction keeps it at the fingers.

        The noise, a tenth as large as the drive, varies the demonstrations.
        """
        hand, cube = obs[:, :2].astype(np.float64), obs[:, 3:5].astype(np.float64)
        offset = cube - hand
        touching = (offset[:, 1] < TOUCHING) & (np.abs(offset[:, 0]) < ASIDE)
        wanted = np.where(touching[:, None], task - cube, offset - [0.0, 0.028])
        drive = wanted / STEP_LENGTH
        drive /= np.maximum(np.abs(drive).max(axis=1, keepdims=True), 1.0)
        whole = np.concatenate([drive, np.zeros((len(obs), 1))], axis=1) + 0.1 * noise
        action: np.ndarray = np.clip(whole, -1.0, 1.0).astype(np.float32)
        return action
