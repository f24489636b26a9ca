"""The environments as a Gymnasium user writes them: one simulator a class, one step a call."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.envs.mujoco.half_cheetah_v5 import HalfCheetahEnv
from gymnasium.envs.registration import EnvSpec
from gymnasium.spaces import Box
from gymnasium.wrappers import TimeLimit

from benchmarks.plain_walkers import (
    PlainAntDir,
    PlainHopperParam,
    PlainHumanoidDir,
    PlainWalkerParam,
)
from kernels.mujoco_step import silence_warnings
from smac_core.envs.definition import Environment
from smac_core.envs.gym_driver import SmacEnv

Floats = npt.NDArray[np.floating[Any]]


class PlainCheetahVel(HalfCheetahEnv):  # type: ignore[misc]
    """Gymnasium's half cheetah with the observation and the reward of ``cheetah-vel``.

    Args:
        task: The target velocity (m/s), an array of one.
    """

    def __init__(self, task: npt.NDArray[np.float64]) -> None:
        self.target = float(task[0])
        super().__init__()
        self.observation_space = Box(-np.inf, np.inf, (20,), np.float32)

    def _get_obs(self) -> Floats:
        parts = [self.data.qpos[1:], self.data.qvel, self.data.body("torso").xpos]
        return np.concatenate(parts).astype(np.float32)

    def _get_rew(self, x_velocity: float, action: Floats) -> tuple[float, dict[str, float]]:
        return -abs(x_velocity - self.target) - 0.05 * float(np.sum(np.square(action))), {}


class PlainPointRobot(gymnasium.Env[Floats, Floats]):
    """A point that moves by up to 0.1 m on each axis.

    Args:
        task: The goal ``[2]`` (m).
    """

    def __init__(self, task: npt.NDArray[np.float64]) -> None:
        self.goal = task
        self.position = np.zeros(2)
        self.observation_space = Box(-np.inf, np.inf, (2,), np.float32)
        self.action_space = Box(-1.0, 1.0, (2,), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Floats, dict[str, Any]]:
        """Start at the origin."""
        super().reset(seed=seed)
        self.position = np.zeros(2)
        return self.position.astype(np.float32), {}

    def step(self, action: Floats) -> tuple[Floats, float, bool, bool, dict[str, Any]]:
        """Move, and pay the distance to the goal."""
        self.position = self.position + 0.1 * np.clip(action, -1.0, 1.0)
        reward = -float(np.linalg.norm(self.position - self.goal))
        return self.position.astype(np.float32), reward, False, False, {}


_PLAIN: dict[str, Callable[[npt.NDArray[np.float64]], gymnasium.Env[Any, Any]]] = {
    "ant-dir": PlainAntDir,
    "cheetah-vel": PlainCheetahVel,
    "hopper-param": PlainHopperParam,
    "humanoid-dir": PlainHumanoidDir,
    "point-robot": PlainPointRobot,
    "walker-param": PlainWalkerParam,
}


def make_lean(env: Environment, task: npt.NDArray[np.float64]) -> gymnasium.Env[Any, Any]:
    """Build the Gymnasium environment of one task as lean as it gets.

    Args:
        env: The definition; where nobody wrote a plain class for it, its own Gymnasium driver.
        task: ``[task_dim]`` parameters.

    Returns:
        The environment, with its time limit and without the wrappers of ``gymnasium.make``.
    """
    silence_warnings()  # MuJoCo's notes on the model's age would stand between the rows
    plain = _PLAIN.get(env.env_id)
    made = plain(task) if plain is not None else SmacEnv(env, task=task)
    return TimeLimit(made, max_episode_steps=env.horizon)


def make_plain(env: Environment, task: npt.NDArray[np.float64]) -> gymnasium.Env[Any, Any]:
    """Build the Gymnasium environment of one task as users do, by ``gymnasium.make``.

    Args:
        env: The definition; see ``make_lean``.
        task: ``[task_dim]`` parameters.

    Returns:
        The environment in the wrappers that ``make`` adds by default: PassiveEnvChecker,
        OrderEnforcing and TimeLimit.
    """
    silence_warnings()
    plain = _PLAIN.get(env.env_id)
    entry = partial(plain, task) if plain is not None else partial(SmacEnv, env, task=task)
    spec = EnvSpec(f"Plain-{env.env_id}-v0", entry, max_episode_steps=env.horizon)
    return gymnasium.make(spec)
