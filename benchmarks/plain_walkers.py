"""The walking domains as a Gymnasium user writes them: subclasses of Gymnasium's own walkers."""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np
import numpy.typing as npt
from gymnasium.envs.mujoco.ant_v5 import AntEnv
from gymnasium.envs.mujoco.hopper_v5 import HopperEnv
from gymnasium.envs.mujoco.humanoid_v5 import HumanoidEnv
from gymnasium.envs.mujoco.walker2d_v5 import Walker2dEnv
from gymnasium.spaces import Box

from smac_core.envs.hopper_param import HopperParam
from smac_core.envs.walker_param import WalkerParam

Floats = npt.NDArray[np.floating[Any]]


class PlainAntDir(AntEnv):  # type: ignore[misc]
    """Gymnasium's ant, rewarded along a direction.

    Args:
        task: The direction (degrees), an array of one.
    """

    def __init__(self, task: npt.NDArray[np.float64]) -> None:
        angle = np.radians(task[0])
        self.direction = np.array([np.cos(angle), np.sin(angle)])
        super().__init__(include_cfrc_ext_in_observation=False)
        self.observation_space = Box(-np.inf, np.inf, (27,), np.float32)

    def _get_obs(self) -> Floats:
        return np.concatenate([self.data.qpos[2:], self.data.qvel]).astype(np.float32)

    def step(self, action: Floats) -> Any:
        """Take a control step."""
        before = self.data.body("torso").xpos[:2].copy()
        self.do_simulation(action, self.frame_skip)
        velocity = (self.data.body("torso").xpos[:2] - before) / self.dt
        cost = 0.5 * np.sum(np.square(action)) + self.contact_cost
        reward = float(velocity @ self.direction - cost + 1.0)
        return self._get_obs(), reward, not self.is_healthy, False, {}


class PlainHumanoidDir(HumanoidEnv):  # type: ignore[misc]
    """Gymnasium's humanoid, with the older observation and a reward along a direction.

    Args:
        task: The direction (rad), an array of one.
    """

    def __init__(self, task: npt.NDArray[np.float64]) -> None:
        self.direction = np.array([np.cos(task[0]), np.sin(task[0])])
        super().__init__()
        self.observation_space = Box(-np.inf, np.inf, (376,), np.float32)
        self.action_space = Box(-1.0, 1.0, (17,), np.float32)

    def _get_obs(self) -> Floats:
        data = self.data
        wide = (data.cinert, data.cvel, data.qfrc_actuator, data.cfrc_ext)
        flat = [part.flatten() for part in wide]
        return np.concatenate([data.qpos[2:], data.qvel, *flat]).astype(np.float32)

    def _centre(self) -> Floats:
        mass = self.model.body_mass[:, None]
        centre: Floats = (mass * self.data.xipos).sum(axis=0)[:2] / mass.sum()
        return centre

    def step(self, action: Floats) -> Any:
        """Take a control step."""
        before = self._centre()
        control = 0.4 * np.asarray(action, dtype=np.float64)
        self.do_simulation(control, self.frame_skip)
        progress = 0.25 * (self._centre() - before) @ self.direction / 0.003
        contact = min(0.5e-6 * float(np.sum(np.square(self.data.cfrc_ext))), 10.0)
        reward = float(progress - 0.1 * np.sum(np.square(control)) - contact + 5.0)
        return self._get_obs(), reward, not self.is_healthy, False, {}


def _multiply(model: mujoco.MjModel, task: npt.NDArray[np.float64], joints: int) -> None:
    """Write a task's multipliers into a fresh model with so many actuated joints."""
    bodies = joints + 1
    mass, inertia, friction, damping = np.split(task, np.cumsum([bodies, 3 * bodies, bodies + 1]))
    model.body_mass[1:] *= mass
    model.body_inertia[1:] *= inertia.reshape(bodies, 3)
    model.geom_friction[:, 0] *= friction
    model.dof_damping[3:] *= damping


class PlainWalkerParam(Walker2dEnv):  # type: ignore[misc]
    """Gymnasium's walker with the dynamics of a task.

    Args:
        task: The multipliers.
    """

    def __init__(self, task: npt.NDArray[np.float64]) -> None:
        super().__init__(xml_file="walker2d.xml", frame_skip=4)
        _multiply(self.model, task, WalkerParam.action_dim)
        self.observation_space = Box(-np.inf, np.inf, (17,), np.float32)

    def _get_obs(self) -> Floats:
        velocity = np.clip(self.data.qvel, -10.0, 10.0)
        return np.concatenate([self.data.qpos[1:], velocity]).astype(np.float32)

    def _get_rew(self, x_velocity: float, action: Floats) -> tuple[float, dict[str, float]]:
        return float(x_velocity + 1.0 - 1e-3 * np.sum(np.square(action))), {}


class PlainHopperParam(HopperEnv):  # type: ignore[misc]
    """Gymnasium's hopper with the dynamics of a task.

    Args:
        task: The multipliers.
    """

    def __init__(self, task: npt.NDArray[np.float64]) -> None:
        super().__init__(frame_skip=4)
        _multiply(self.model, task, HopperParam.action_dim)
        self.observation_space = Box(-np.inf, np.inf, (11,), np.float32)

    def _get_obs(self) -> Floats:
        velocity = np.clip(self.data.qvel, -10.0, 10.0)
        return np.concatenate([self.data.qpos[1:], velocity]).astype(np.float32)

    def _get_rew(self, x_velocity: float, action: Floats) -> tuple[float, dict[str, float]]:
        return float(x_velocity + 1.0 - 1e-3 * np.sum(np.square(action))), {}
