"""HalfCheetah that must run at a hidden target velocity.

Source: smac-reference section 7; MJCF of the installed Gymnasium package.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import mujoco
import numpy as np

from smac_core.envs.definition import Environment, draw_uniform
from smac_core.envs.mujoco_physics import MujocoPhysics, load_mjcf, sum_of_squares

FRAME_SKIP = 5
TIMESTEP = 0.01  # s, of half_cheetah.xml; checked when the model is loaded
NUM_POSITIONS = 9
CONTROL_COST = 0.05
# Columns of an observation: velocity of the root along x, and x of the torso.
X_VELOCITY, TORSO_X = NUM_POSITIONS - 1, 2 * NUM_POSITIONS - 1


class CheetahVel(Environment):
    """Run at a target velocity between 0 and 3 m/s; reward −|v − g| − 0.05‖a‖²."""

    env_id = "cheetah-vel"
    gym_id = "SMAC/CheetahVel-v0"
    obs_dim = 20
    action_dim = 6
    initial_dim = 18
    horizon = 200
    control_seconds = FRAME_SKIP * TIMESTEP
    task_fields = ("target_velocity",)
    task_low = (0.0,)
    task_high = (3.0,)
    num_tasks = (100, 30)  # of the authors' list
    not_in_rows = None
    measure_units: ClassVar[Mapping[str, str]] = {
        "forward_velocity": "m/s",
        "velocity_error": "m/s",
        "distance": "m",
    }

    def __init__(self) -> None:
        self._start: np.ndarray | None = None

    def sample_tasks(self, seed: int, num_train: int, num_test: int) -> np.ndarray:
        """Draw target velocities; seed 1337 gives the published list, bit for bit.

        Source: smac-reference section 7: ``RandomState(1337).uniform(0, 3, 130)``, train first.
        """
        return draw_uniform(seed, num_train, num_test, self.num_tasks, high=3.0)

    def load_model(self) -> mujoco.MjModel:
        """Load the MJCF file."""
        model = load_mjcf("half_cheetah.xml")
        assert model.opt.timestep == TIMESTEP, "half_cheetah.xml changed its timestep"
        return model

    def initial_state(self, rng: np.random.Generator) -> np.ndarray:
        """Perturb the rest pose: qpos + U(±0.1), qvel + 0.1 N(0, 1)."""
        if self._start is None:
            self._start = self.load_model().qpos0.copy()
        position = self._start + rng.uniform(-0.1, 0.1, NUM_POSITIONS)
        return np.concatenate([position, 0.1 * rng.standard_normal(NUM_POSITIONS)])

    def make_physics(self, num: int) -> MujocoPhysics:
        """Build cheetahs that step together; the state row is qpos, qvel, torso position."""
        model = self.load_model()
        torso = model.body("torso").id
        return MujocoPhysics(model, num, FRAME_SKIP, lambda d: (d.qpos, d.qvel, d.xpos[torso]))

    def observe(self, state: np.ndarray) -> np.ndarray:
        """Observe qpos without x (8), qvel (9) and the torso's position (3).

        The torso's position lags by one physics step, as in the authors' code.
        """
        return state[:, 1:].astype(np.float32)

    def reward(
        self, before: np.ndarray, action: np.ndarray, after: np.ndarray, task: np.ndarray
    ) -> np.ndarray:
        """Minus the velocity error (m/s) minus the control cost."""
        effort = sum_of_squares(np.clip(action, -1.0, 1.0))
        cost: np.ndarray = np.abs(self.velocity(before, after) - task[:, 0])
        return -cost - CONTROL_COST * effort

    def reward_of_rows(
        self,
        obs: np.ndarray,
        action: np.ndarray,
        next_obs: np.ndarray,
        task: np.ndarray,
        first: np.ndarray,
    ) -> np.ndarray:
        """Compute any task's reward: the observation holds x, late by one physics step.

        MuJoCo's Euler step moves a position by its new velocity, which is observed too. A reset
        computes the torso's position without delay.
        """
        delay = np.where(first, 0.0, TIMESTEP)
        x = obs[:, TORSO_X] + delay * obs[:, X_VELOCITY]
        after = next_obs[:, TORSO_X] + TIMESTEP * next_obs[:, X_VELOCITY].astype(np.float64)
        return self.reward(x[:, None], action, after[:, None], task)

    def velocity(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """Forward velocity over one control step.

        Args:
            before: ``[N, state_dim]``.
            after: ``[N, state_dim]``.

        Returns:
            ``[N]`` m/s.
        """
        moved: np.ndarray = after[:, 0] - before[:, 0]
        return moved / self.control_seconds

    def measure(self, path: np.ndarray, length: np.ndarray, task: np.ndarray) -> np.ndarray:
        """Measure the mean velocity, its distance from the target, and how far it came."""
        velocity, distance = super().measure(path, length, task).T
        return np.stack([velocity, np.abs(velocity - task[:, 0]), distance], axis=1)

    def position(self, state: np.ndarray) -> np.ndarray:
        """Return x and height of the root (m)."""
        return state[:, :2].copy()
