"""Planar walkers whose dynamics differ between tasks: what walker-param and hopper-param share.

A task is a list of multipliers of the model's masses, inertias, frictions and joint dampings. They
are drawn once and always applied to the pristine model, so they never compound.

Source: smac-reference sections 7 and 8; MJCF of the installed Gymnasium package.
"""

from __future__ import annotations

from functools import cached_property
from typing import ClassVar

import mujoco
import numpy as np

from smac_core.envs.definition import Environment
from smac_core.envs.mujoco_physics import MujocoPhysics, load_mjcf, sum_of_squares
from smac_core.errors import ConfigError

FRAME_SKIP = 4  # hard-coded in the authors' code, whatever the walker asks for
TIMESTEPS = (0.002, 0.004)  # s: of Gymnasium's files and the authors; of rand_param_envs
EXPONENT = 3.0  # a multiplier is base ** U(-3, 3)
BASE, DAMPING_BASE = 1.5, 1.3  # docs/deviations.md: the paper's text has 1.5 for all
START_RANGE = 0.005  # positions and velocities start within ± this, as in gym
SEEN_VELOCITY = 10.0  # velocities are observed clipped to ± this (m/s, rad/s)
CONTROL_COST, SURVIVAL = 1e-3, 1.0
ROOT_JOINTS = 3  # x, z and pitch of the torso, undamped
POSITION, HEIGHT, PITCH = range(ROOT_JOINTS)


def multiplied(bodies: tuple[str, ...]) -> tuple[str, ...]:
    """Name the task parameters of a walker, in their order.

    Left out is what cannot matter: masses and dampings of 0, and torsional and rolling friction,
    which no contact of these models has (``condim`` is at most 3).

    Args:
        bodies: The torso first; every other one hangs on a joint ``<body>_joint``, and each has one
            geom ``<body>_geom``.

    Returns:
        Names of the multipliers.
    """
    return (
        *(f"mass_{body}" for body in bodies),
        *(f"inertia_{body}_{axis}" for body in bodies for axis in ("x", "y", "z")),
        *(f"friction_{name}" for name in ("floor", *bodies)),
        *(f"damping_{body}_joint" for body in bodies[1:]),
    )


def powers(bodies: tuple[str, ...], exponent: float) -> tuple[float, ...]:
    """Raise the base of every multiplier to a power.

    Args:
        bodies: As ``multiplied`` takes them.
        exponent: The power; 3 gives the largest multipliers, -3 the smallest.

    Returns:
        One number a task parameter.
    """
    joints = len(bodies) - 1
    others = len(multiplied(bodies)) - joints
    return (*[BASE**exponent] * others, *[DAMPING_BASE**exponent] * joints)


class DynamicsParam(Environment):
    """Walk forward under unknown dynamics; reward Δx/dt + 1 − 0.001‖a‖² a step.

    Args:
        timestep: Of the simulator (s), 0.002 as the authors have it, or 0.004 as the original
            rand_param_envs; a control step takes four.
    """

    mjcf: ClassVar[str]
    bodies: ClassVar[tuple[str, ...]]
    horizon = 200
    num_tasks = (50, 5)
    dynamics_differ = True
    not_in_rows = "the dynamics: a step of one task is none of another"

    def __init__(self, timestep: float = TIMESTEPS[0]) -> None:
        if timestep not in TIMESTEPS:
            raise ConfigError(
                "unknown timestep",
                where=f"environment {self.env_id}",
                expected=" or ".join(str(value) for value in TIMESTEPS),
                found=timestep,
                fix="correct env.params.timestep in the config",
            )
        self.timestep = float(timestep)
        self.control_seconds = FRAME_SKIP * self.timestep

    def sample_tasks(self, seed: int, num_train: int, num_test: int) -> np.ndarray:
        """Draw multipliers: 1.5^U(-3, 3), and 1.3^U(-3, 3) of dampings."""
        shape = (num_train + num_test, len(self.task_fields))
        exponent = np.random.default_rng(seed).uniform(-EXPONENT, EXPONENT, shape)
        tasks: np.ndarray = np.asarray(powers(self.bodies, 1.0)) ** exponent
        return tasks

    def load_model(self) -> mujoco.MjModel:
        """Load the MJCF file, with the timestep asked for."""
        model = load_mjcf(self.mjcf)
        names = [model.geom(i).name for i in range(model.ngeom)]
        assert names == ["floor", *(f"{body}_geom" for body in self.bodies)], "other bodies"
        model.opt.timestep = self.timestep
        return model

    @cached_property
    def pristine(self) -> mujoco.MjModel:
        """The model without a task's multipliers; never written to."""
        return self.load_model()

    def apply_task(self, model: mujoco.MjModel, task: np.ndarray) -> None:
        """Write a task's dynamics into a model, whatever task it held before.

        Constants that MuJoCo derived from the pristine model stay: ``mj_setConst`` is not called,
        as in the authors' code.

        Args:
            model: A copy of the pristine one.
            task: ``[len(task_fields)]`` multipliers.
        """
        num, origin = len(self.bodies), self.pristine
        mass, inertia, friction, damping = np.split(task, np.cumsum([num, 3 * num, num + 1]))
        model.body_mass[1:] = origin.body_mass[1:] * mass
        model.body_inertia[1:] = origin.body_inertia[1:] * inertia.reshape(num, 3)
        model.geom_friction[:, 0] = origin.geom_friction[:, 0] * friction
        model.dof_damping[ROOT_JOINTS:] = origin.dof_damping[ROOT_JOINTS:] * damping

    def initial_state(self, rng: np.random.Generator) -> np.ndarray:
        """Perturb the file's pose: qpos + U(±0.005), qvel U(±0.005)."""
        start = np.concatenate([self.pristine.qpos0, np.zeros(self.pristine.nv)])
        perturbed: np.ndarray = start + rng.uniform(-START_RANGE, START_RANGE, len(start))
        return perturbed

    def make_physics(self, num: int) -> MujocoPhysics:
        """Build walkers that step together, each with a model of its own."""
        return MujocoPhysics(
            self.pristine,
            num,
            FRAME_SKIP,
            lambda d: (d.qpos, d.qvel),
            configure=self.apply_task,
        )

    def observe(self, state: np.ndarray) -> np.ndarray:
        """Observe qpos without x, and qvel clipped to ±10."""
        obs = state[:, 1:].astype(np.float32)
        velocity = obs[:, self.initial_dim // 2 - 1 :]
        np.clip(velocity, -SEEN_VELOCITY, SEEN_VELOCITY, out=velocity)
        return obs

    def reward(
        self, before: np.ndarray, action: np.ndarray, after: np.ndarray, task: np.ndarray
    ) -> np.ndarray:
        """Forward velocity (m/s), plus 1 for survival, minus the control cost."""
        speed = (after[:, POSITION] - before[:, POSITION]) / self.control_seconds
        effort = sum_of_squares(np.clip(action, -1.0, 1.0))
        reward: np.ndarray = speed + SURVIVAL - CONTROL_COST * effort
        return reward

    def position(self, state: np.ndarray) -> np.ndarray:
        """Return x and height of the torso (m)."""
        return state[:, : HEIGHT + 1].copy()

    def latent_of_task(self, task: np.ndarray) -> np.ndarray:
        """Scale the multipliers' exponents to [-1, 1]."""
        described: np.ndarray = np.log(task) / np.log(self.task_high)
        return described
