"""A weak ant that must reach a hidden goal on a ring: the ant of guided meta-policy search.

Source: baselines.md section 4.1; MJCF of the installed Gymnasium package, with other motors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import mujoco
import numpy as np

from smac_core.envs.ant_gait import Gait
from smac_core.envs.definition import Environment, ScriptedEpisodes, displacement
from smac_core.envs.mujoco_physics import MujocoPhysics, load_mjcf, sum_of_squares
from smac_core.errors import ConfigError

FRAME_SKIP = 1  # 200 steps are two seconds
TIMESTEP = 0.01  # s, of ant.xml; checked when the model is loaded
GEAR = 30.0  # N m at full action; Gymnasium's ant has 150
NUM_POSITIONS, NUM_VELOCITIES, NUM_BODIES = 15, 14, 14
START_RANGE = 0.02  # positions and velocities start within ± this, as in the recorded experts
# A state row is an observation: qpos, qvel, contact forces, the torso's rotation matrix.
PLACE, HEIGHT = slice(0, 2), 2
CONTACT = slice(NUM_POSITIONS + NUM_VELOCITIES, NUM_POSITIONS + NUM_VELOCITIES + 6 * NUM_BODIES)
LOWEST, HIGHEST = 0.2, 1.0  # m, height of the torso outside of which the ant has fallen
RADIUS = 2.0  # m, of the ring
NEAR = 0.8  # m from the goal, within which the sparse reward tells how far it is
OFFSET, SURVIVAL, CONTROL_COST, CONTACT_COST = 4.0, 0.05, 5e-3, 5e-4
REWARDS = ("dense", "sparse")


class AntGoalRing(Environment):
    """Reach a goal two metres away, whose bearing is hidden.

    Args:
        reward: ``dense``: 4 − ‖xy − g‖₁ − 0.005‖a‖² − contact cost + 0.05 a step; ``sparse``: the
            distance counts as at the start, ‖g‖₁, wherever the goal is further than 0.8 m away.
        train_low: Least bearing of a training goal (degrees from the x axis).
        train_high: Largest bearing of a training goal.
        test_low: As ``train_low``, of held-out goals; None: the same.
        test_high: As ``train_high``, of held-out goals; None: the same.
    """

    env_id = "ant-goal-ring"
    gym_id = "SMAC/AntGoalRing-v0"
    obs_dim = 122
    action_dim = 8
    initial_dim = NUM_POSITIONS + NUM_VELOCITIES
    horizon = 200
    control_seconds = FRAME_SKIP * TIMESTEP
    task_fields = ("goal_x", "goal_y")
    task_low = (-RADIUS, -RADIUS)
    task_high = (RADIUS, RADIUS)
    num_tasks = (40, 20)
    not_in_rows = None
    seen_from_above = True
    measure_units: ClassVar[Mapping[str, str]] = {"goal_distance": "m", "distance": "m"}

    def __init__(
        self,
        reward: str = "dense",
        train_low: float = 0.0,
        train_high: float = 90.0,
        test_low: float | None = None,
        test_high: float | None = None,
    ) -> None:
        self.variant = reward
        self.train_range = (train_low, train_high)
        self.test_range = (
            train_low if test_low is None else test_low,
            train_high if test_high is None else test_high,
        )
        self._start: np.ndarray | None = None
        if reward not in REWARDS:
            raise ConfigError(
                "unknown reward",
                where=f"environment {self.env_id}",
                expected=" or ".join(REWARDS),
                found=reward,
                fix="correct env.params.reward in the config",
            )
        for low, high in (self.train_range, self.test_range):
            if not -360.0 <= low < high <= 360.0:
                raise ConfigError(
                    "bearings of goals out of order",
                    where=f"environment {self.env_id}",
                    expected="-360 <= low < high <= 360",
                    found=f"{low} to {high}",
                    fix="correct train_low, train_high, test_low, test_high in env.params",
                )

    def sample_tasks(self, seed: int, num_train: int, num_test: int) -> np.ndarray:
        """Space goals equally along both arcs; the seed turns each arc's goals and shuffles them.

        Validation tasks are the last of the training tasks: shuffled, they are of the whole arc.
        """
        rng = np.random.default_rng(seed)
        parts = []
        for number, (low, high) in ((num_train, self.train_range), (num_test, self.test_range)):
            # In (0, 1], so that a range of (90, 180] has no goal of [0, 90].
            place = (rng.permutation(number) + 1.0 - rng.uniform()) / max(number, 1)
            parts.append(np.radians(low + (high - low) * place))
        bearing = np.concatenate(parts)
        goals: np.ndarray = RADIUS * np.stack([np.cos(bearing), np.sin(bearing)], axis=1)
        return goals

    def load_model(self) -> mujoco.MjModel:
        """Load the MJCF file, with weaker motors."""
        model = load_mjcf("ant.xml")
        assert model.opt.timestep == TIMESTEP, "ant.xml changed its timestep"
        model.actuator_gear[:, 0] = GEAR
        return model

    def initial_state(self, rng: np.random.Generator) -> np.ndarray:
        """Perturb the file's ``init_qpos``, a crouch, and no velocity: both + U(±0.02)."""
        if self._start is None:
            pose = self.load_model().numeric("init_qpos").data
            self._start = np.concatenate([pose, np.zeros(NUM_VELOCITIES)])
        start: np.ndarray = self._start + rng.uniform(-START_RANGE, START_RANGE, self.initial_dim)
        return start

    def make_physics(self, num: int) -> MujocoPhysics:
        """Build ants that step together."""
        model = self.load_model()
        torso = model.body("torso").id
        return MujocoPhysics(
            model,
            num,
            FRAME_SKIP,
            lambda d: (d.qpos, d.qvel, d.cfrc_ext, d.xmat[torso]),
            post_constraint=True,
        )

    def observe(self, state: np.ndarray) -> np.ndarray:
        """Observe qpos (15), qvel (14), contact forces clipped to ±1 (84), the rotation (9).

        As in the authors' code, the rotation matrix lags by one physics step.
        """
        obs = state.astype(np.float32)
        contact = obs[:, CONTACT]
        np.clip(contact, -1.0, 1.0, out=contact)
        return obs

    def reward(
        self, before: np.ndarray, action: np.ndarray, after: np.ndarray, task: np.ndarray
    ) -> np.ndarray:
        """Nearness to the goal by the city-block distance, survival, effort and contact."""
        offset = after[:, PLACE] - task
        away = np.abs(offset[:, 0]) + np.abs(offset[:, 1])
        if self.variant == "sparse":
            far = np.hypot(offset[:, 0], offset[:, 1]) > NEAR
            away = np.where(far, np.abs(task[:, 0]) + np.abs(task[:, 1]), away)
        effort = sum_of_squares(np.clip(action, -1.0, 1.0))
        contact = sum_of_squares(np.clip(after[:, CONTACT], -1.0, 1.0))
        reward: np.ndarray = (
            OFFSET - away - CONTROL_COST * effort - CONTACT_COST * contact + SURVIVAL
        )
        return reward

    def reward_of_rows(
        self,
        obs: np.ndarray,
        action: np.ndarray,
        next_obs: np.ndarray,
        task: np.ndarray,
        first: np.ndarray,
    ) -> np.ndarray:
        """Compute any task's reward: an observation holds all that it reads."""
        return self.reward(obs, action, next_obs.astype(np.float64), task)

    def terminated(self, state: np.ndarray) -> np.ndarray:
        """Tell which ants have fallen: the torso's height is outside 0.2 to 1.0 m."""
        height = state[:, HEIGHT]
        fallen: np.ndarray = (height < LOWEST) | (height > HIGHEST)
        return fallen

    def position(self, state: np.ndarray) -> np.ndarray:
        """Return x and y of the torso (m)."""
        return state[:, PLACE].copy()

    def forward(self, task: np.ndarray) -> np.ndarray:
        """Return the goal's bearing as a unit vector in the plane."""
        length = np.hypot(task[:, 0], task[:, 1])[:, None]
        ahead: np.ndarray = task / np.where(length > 0.0, length, 1.0)
        return ahead

    def measure(self, path: np.ndarray, length: np.ndarray, task: np.ndarray) -> np.ndarray:
        """Measure how far from the goal an episode ends, and how far it came."""
        moved = displacement(path, length)
        missed = path[:, 0] + moved - task
        return np.stack([np.hypot(*missed.T), np.hypot(*moved.T)], axis=1)

    def marks(self, task: np.ndarray) -> np.ndarray:
        """Mark the goal, at the height at which the torso starts."""
        return np.insert(task, 2, 0.55, axis=1)[:, None]

    def latent_of_task(self, task: np.ndarray) -> np.ndarray:
        """Describe a goal by its unit vector: what an expert for all goals is told."""
        return task / RADIUS

    def script(self, initial: np.ndarray, task: np.ndarray) -> ScriptedEpisodes:
        """Begin episodes of a gait towards the goal, which does not look where it is."""
        bearing = np.degrees(np.arctan2(task[:, 1], task[:, 0]))
        return Gait(bearing, self.control_seconds).act


class AntGoalRingFar(AntGoalRing):
    """Goals for extrapolation: trained on bearings of 0 to 90 degrees, held out up to 180.

    Args:
        reward: As ``AntGoalRing`` takes it.
    """

    env_id = "ant-goal-ring-far"
    gym_id = "SMAC/AntGoalRingFar-v0"

    def __init__(self, reward: str = "dense") -> None:
        super().__init__(reward, test_low=90.0, test_high=180.0)
