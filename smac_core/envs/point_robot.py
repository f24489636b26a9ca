"""A point in the plane that must find a goal on the half circle: the fast environment.

The goal is not observed; only rewards tell where it is. Source: PEARL's point-robot, horizon 20
(baselines.md section 1).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from smac_core.envs.definition import Environment, displacement

STEP_LENGTH = 0.1  # metres a control step at full action


class PointPhysics:
    """Kinematic points, in NumPy.

    Args:
        num: How many.
    """

    def __init__(self, num: int) -> None:
        self.state = np.zeros((num, 2))
        self.previous = np.zeros((num, 2))
        self.ok = np.ones(num, dtype=bool)

    def reset(self, initial: np.ndarray, tasks: np.ndarray) -> None:
        """Put every point at its start; the task does not change the dynamics."""
        self.state[:] = initial
        self.previous[:] = initial
        self.ok[:] = np.isfinite(initial).all(axis=1)

    def step(self, action: np.ndarray, active: np.ndarray) -> None:
        """Move the active points by up to 0.1 m on each axis."""
        self.previous[:] = self.state
        move = STEP_LENGTH * np.clip(action.astype(np.float64), -1.0, 1.0)
        self.state[active] += move[active]
        self.ok[:] = np.isfinite(self.state).all(axis=1)


class PointRobot(Environment):
    """Reach a goal on the unit half circle; reward is minus the distance to it."""

    env_id = "point-robot"
    gym_id = "SMAC/PointRobot-v0"
    obs_dim = 2
    action_dim = 2
    initial_dim = 2
    horizon = 20
    control_seconds = 1.0
    task_fields = ("goal_x", "goal_y")
    task_low = (-1.0, 0.0)
    task_high = (1.0, 1.0)
    seen_from_above = True
    not_in_rows = None
    measure_units: ClassVar[Mapping[str, str]] = {"goal_distance": "m", "distance": "m"}

    def sample_tasks(self, seed: int, num_train: int, num_test: int) -> np.ndarray:
        """Draw goals uniformly on the upper half circle of radius 1."""
        angle = np.random.default_rng(seed).uniform(0.0, np.pi, num_train + num_test)
        return np.stack([np.cos(angle), np.sin(angle)], axis=1)

    def initial_state(self, rng: np.random.Generator) -> np.ndarray:
        """Start at the origin, the centre of the half circle."""
        return np.zeros(2)

    def make_physics(self, num: int) -> PointPhysics:
        """Build points that step together."""
        return PointPhysics(num)

    def observe(self, state: np.ndarray) -> np.ndarray:
        """Observe the position."""
        return state.astype(np.float32)

    def reward(
        self, before: np.ndarray, action: np.ndarray, after: np.ndarray, task: np.ndarray
    ) -> np.ndarray:
        """Minus the distance to the goal after the step (m)."""
        offset = after - task
        distance: np.ndarray = np.sqrt(offset[:, 0] ** 2 + offset[:, 1] ** 2)
        return -distance

    def reward_of_rows(
        self,
        obs: np.ndarray,
        action: np.ndarray,
        next_obs: np.ndarray,
        task: np.ndarray,
        first: np.ndarray,
    ) -> np.ndarray:
        """Minus the distance to any task's goal: observations are states."""
        return self.reward(obs, action, next_obs.astype(np.float64), task)

    def position(self, state: np.ndarray) -> np.ndarray:
        """Return the position itself."""
        return state.copy()

    def measure(self, path: np.ndarray, length: np.ndarray, task: np.ndarray) -> np.ndarray:
        """Measure how far from the goal an episode ends, and how far it came."""
        moved = displacement(path, length)
        missed = path[:, 0] + moved - task
        return np.stack([np.hypot(*missed.T), np.hypot(*moved.T)], axis=1)

    def scripted_action(self, obs: np.ndarray, task: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """Head for the goal, with noise as large as the drive."""
        drive = np.clip((task - obs) / STEP_LENGTH, -1.0, 1.0)
        action: np.ndarray = np.clip(drive + noise, -1.0, 1.0)
        return action
