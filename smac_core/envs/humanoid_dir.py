"""Humanoid that must walk in a hidden direction.

Source: smac-reference sections 7 and 8; MJCF of the installed Gymnasium package.
"""

from __future__ import annotations

import mujoco
import numpy as np

from smac_core.envs.definition import Environment
from smac_core.envs.mujoco_physics import MujocoPhysics, load_mjcf, sum_of_squares

FRAME_SKIP = 5
TIMESTEP = 0.003  # s, of humanoid.xml; checked when the model is loaded
NUM_POSITIONS, NUM_VELOCITIES, NUM_BODIES = 24, 23, 14
START_RANGE = 0.01  # positions and velocities start within ± this, as in gym
HEIGHT = 2
# A state row is what the authors observe, in their order and with x and y of the torso before it,
# then x and y of the centre of mass. So an observation is one slice.
OBSERVED = slice(2, 378)
CONTACT = slice(OBSERVED.stop - 6 * NUM_BODIES, OBSERVED.stop)
CENTRE = slice(OBSERVED.stop, OBSERVED.stop + 2)
LOWEST, HIGHEST = 1.0, 2.0  # m, height of the torso
LARGEST_CONTROL = 0.4  # actuator units at full action
# Progress is paid by the simulator's timestep, not by the control step: 1.25 a m/s.
PROGRESS, SURVIVAL = 0.25 / TIMESTEP, 5.0
CONTROL_COST, CONTACT_COST, MOST_CONTACT_COST = 0.1, 5e-7, 10.0


class HumanoidDir(Environment):
    """Walk in a target direction: 1.25 × velocity − 0.1‖ctrl‖² − contact cost + 5 a step."""

    env_id = "humanoid-dir"
    gym_id = "SMAC/HumanoidDir-v0"
    obs_dim = 376
    action_dim = 17
    initial_dim = NUM_POSITIONS + NUM_VELOCITIES
    horizon = 200
    control_seconds = FRAME_SKIP * TIMESTEP
    task_fields = ("direction_radians",)
    task_low = (0.0,)
    task_high = (2.0 * np.pi,)
    num_tasks = (50, 5)
    not_in_rows = "the way of the centre of mass over the step"
    seen_from_above = True

    def __init__(self) -> None:
        self._start: np.ndarray | None = None

    def sample_tasks(self, seed: int, num_train: int, num_test: int) -> np.ndarray:
        """Draw directions in radians; there is no published list."""
        rng = np.random.default_rng(seed)
        return rng.uniform(0.0, self.task_high[0], (num_train + num_test, 1))

    def load_model(self) -> mujoco.MjModel:
        """Load the MJCF file."""
        model = load_mjcf("humanoid.xml")
        assert model.opt.timestep == TIMESTEP, "humanoid.xml changed its timestep"
        return model

    def initial_state(self, rng: np.random.Generator) -> np.ndarray:
        """Perturb the file's pose: qpos + U(±0.01), quaternion included, qvel U(±0.01)."""
        if self._start is None:
            self._start = np.concatenate([self.load_model().qpos0, np.zeros(NUM_VELOCITIES)])
        start: np.ndarray = self._start + rng.uniform(-START_RANGE, START_RANGE, self.initial_dim)
        return start

    def make_physics(self, num: int) -> MujocoPhysics:
        """Build humanoids that step together."""
        return MujocoPhysics(
            self.load_model(),
            num,
            FRAME_SKIP,
            lambda d: (
                *(d.qpos, d.qvel, d.cinert, d.cvel, d.qfrc_actuator, d.cfrc_ext),
                d.subtree_com[0, :2],
            ),
            post_constraint=True,
        )

    def observe(self, state: np.ndarray) -> np.ndarray:
        """Observe qpos without x and y, qvel, cinert, cvel, qfrc_actuator and cfrc_ext."""
        return state[:, OBSERVED].astype(np.float32)

    def reward(
        self, before: np.ndarray, action: np.ndarray, after: np.ndarray, task: np.ndarray
    ) -> np.ndarray:
        """Progress of the centre of mass, survival, and what control and contacts cost."""
        moved = after[:, CENTRE] - before[:, CENTRE]
        ahead = self.forward(task)
        progress: np.ndarray = moved[:, 0] * ahead[:, 0] + moved[:, 1] * ahead[:, 1]
        effort = LARGEST_CONTROL**2 * sum_of_squares(np.clip(action, -1.0, 1.0))
        contact = np.minimum(CONTACT_COST * sum_of_squares(after[:, CONTACT]), MOST_CONTACT_COST)
        return PROGRESS * progress - CONTROL_COST * effort - contact + SURVIVAL

    def terminated(self, state: np.ndarray) -> np.ndarray:
        """Tell which humanoids have fallen: the torso's height is outside 1 to 2 m."""
        height = state[:, HEIGHT]
        fallen: np.ndarray = (height < LOWEST) | (height > HIGHEST)
        return fallen

    def position(self, state: np.ndarray) -> np.ndarray:
        """Return x and y of the centre of mass (m)."""
        return state[:, CENTRE].copy()

    def forward(self, task: np.ndarray) -> np.ndarray:
        """Return the target direction as a unit vector in the plane."""
        return np.stack([np.cos(task[:, 0]), np.sin(task[:, 0])], axis=1)

    def latent_of_task(self, task: np.ndarray) -> np.ndarray:
        """Describe a direction by its unit vector: 0 and 2π are one."""
        return self.forward(task)
