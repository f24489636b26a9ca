"""Ant that must run in a hidden direction.

Source: smac-reference sections 7 and 8; MJCF of the installed Gymnasium package.
"""

from __future__ import annotations

import mujoco
import numpy as np

from smac_core.envs.definition import Environment, draw_uniform
from smac_core.envs.mujoco_physics import MujocoPhysics, load_mjcf, sum_of_squares
from smac_core.errors import ConfigError

FRAME_SKIP = 5
TIMESTEP = 0.01  # s, of ant.xml; checked when the model is loaded
NUM_POSITIONS, NUM_VELOCITIES = 15, 14
# A state row: qpos, qvel, x and y of the torso's frame, contact forces on the 14 bodies.
HEIGHT = 2
OBSERVED = slice(2, NUM_POSITIONS + NUM_VELOCITIES)
TORSO = slice(OBSERVED.stop, OBSERVED.stop + 2)
CONTACT = slice(TORSO.stop, None)
LOWEST, HIGHEST = 0.2, 1.0  # m, height of the torso outside of which the ant has fallen
CONTROL_COST, CONTACT_COST, SURVIVAL = 0.5, 5e-4, 1.0
REWARDS = ("pearl", "progress")


class AntDir(Environment):
    """Run in a target direction.

    Args:
        reward: ``pearl``: forward velocity − 0.5‖a‖² − contact cost + 1 a step, and a fall is
            terminal, as in PEARL and SMAC; ``progress``: forward velocity alone, and nothing is
            terminal, as in CORRO and UNICORN. Returns of the two are not on one scale.
    """

    env_id = "ant-dir"
    gym_id = "SMAC/AntDir-v0"
    obs_dim = 27
    action_dim = 8
    initial_dim = NUM_POSITIONS + NUM_VELOCITIES
    horizon = 200
    control_seconds = FRAME_SKIP * TIMESTEP
    task_fields = ("direction_degrees",)
    task_low = (0.0,)
    task_high = (360.0,)
    num_tasks = (100, 20)  # of the authors' list
    not_in_rows = "the torso's way over the step"
    seen_from_above = True

    def __init__(self, reward: str = "pearl") -> None:
        if reward not in REWARDS:
            raise ConfigError(
                "unknown reward",
                where="environment ant-dir",
                expected=" or ".join(REWARDS),
                found=reward,
                fix="correct env.params.reward in the config",
            )
        self.variant = reward
        self._start: np.ndarray | None = None

    def sample_tasks(self, seed: int, num_train: int, num_test: int) -> np.ndarray:
        """Draw directions in degrees; seed 1337 gives the published list, bit for bit.

        Source: smac-reference section 7: ``RandomState(1337).uniform(0, 360, 120)``, train first.
        """
        return draw_uniform(seed, num_train, num_test, self.num_tasks, high=360.0)

    def load_model(self) -> mujoco.MjModel:
        """Load the MJCF file."""
        model = load_mjcf("ant.xml")
        assert model.opt.timestep == TIMESTEP, "ant.xml changed its timestep"
        return model

    def initial_state(self, rng: np.random.Generator) -> np.ndarray:
        """Perturb the file's pose: qpos + U(±0.1), quaternion included, qvel + 0.1 N(0, 1).

        The pose is qpos0, with straight ankles, not the file's ``init_qpos``.
        """
        if self._start is None:
            self._start = self.load_model().qpos0.copy()
        position = self._start + rng.uniform(-0.1, 0.1, NUM_POSITIONS)
        return np.concatenate([position, 0.1 * rng.standard_normal(NUM_VELOCITIES)])

    def make_physics(self, num: int) -> MujocoPhysics:
        """Build ants that step together."""
        model = self.load_model()
        torso = model.body("torso").id
        return MujocoPhysics(
            model,
            num,
            FRAME_SKIP,
            lambda d: (d.qpos, d.qvel, d.xpos[torso, :2], d.cfrc_ext),
            post_constraint=True,
        )

    def observe(self, state: np.ndarray) -> np.ndarray:
        """Observe qpos without x and y (13) and qvel (14)."""
        return state[:, OBSERVED].astype(np.float32)

    def reward(
        self, before: np.ndarray, action: np.ndarray, after: np.ndarray, task: np.ndarray
    ) -> np.ndarray:
        """Velocity in the target direction (m/s); ``pearl`` adds survival, effort and contact."""
        moved = (after[:, TORSO] - before[:, TORSO]) / self.control_seconds
        ahead = self.forward(task)
        progress: np.ndarray = moved[:, 0] * ahead[:, 0] + moved[:, 1] * ahead[:, 1]
        if self.variant == "progress":
            return progress
        effort = sum_of_squares(np.clip(action, -1.0, 1.0))
        contact = sum_of_squares(np.clip(after[:, CONTACT], -1.0, 1.0))
        return progress - CONTROL_COST * effort - CONTACT_COST * contact + SURVIVAL

    def terminated(self, state: np.ndarray) -> np.ndarray:
        """Tell which ants have fallen: the torso's height is outside 0.2 to 1.0 m."""
        if self.variant == "progress":
            return super().terminated(state)
        height = state[:, HEIGHT]
        fallen: np.ndarray = (height < LOWEST) | (height > HIGHEST)
        return fallen

    def position(self, state: np.ndarray) -> np.ndarray:
        """Return x and y of the torso (m)."""
        return state[:, TORSO].copy()

    def forward(self, task: np.ndarray) -> np.ndarray:
        """Return the target direction as a unit vector in the plane."""
        angle = np.radians(task[:, 0])
        return np.stack([np.cos(angle), np.sin(angle)], axis=1)

    def latent_of_task(self, task: np.ndarray) -> np.ndarray:
        """Describe a direction by its unit vector: 0 and 360 degrees are one."""
        return self.forward(task)
