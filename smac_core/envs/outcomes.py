"""What simulators and policies give in an episode, and whether it is sound."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from smac_core.envs.definition import Environment, Physics
from smac_core.errors import SimulationError

if TYPE_CHECKING:
    from smac_core.envs.episodes import Episodes


def look(env: Environment, physics: Physics) -> tuple[np.ndarray, np.ndarray]:
    """Observe, and tell which simulators are sound: state and observation are finite.

    Args:
        env: The definition.
        physics: N simulators.

    Returns:
        Obs ``[N, obs_dim]`` and soundness ``[N]``.
    """
    obs = env.observe(physics.state)
    return obs, physics.ok & np.isfinite(obs).all(axis=1)


def describe(
    env: Environment, task: np.ndarray, states: np.ndarray, out: Episodes, *, rewards: bool
) -> None:
    """Fill in what nobody decides upon during an episode, for all its steps at once.

    Args:
        env: The definition, which treats rows independently.
        task: ``[N, task_dim]``.
        states: ``[N, H + 1, state_dim]`` before and after every step.
        out: The episodes; paths, what a script is told, and rewards if asked for, are written.
        rewards: Whether they are.

    Raises:
        SimulationError: A reward is not finite.
    """
    horizon = states.shape[1] - 1
    valid = np.arange(horizon) < out.length[:, None]
    out.path[:, 0] = env.position(states[:, 0])
    after = states[:, 1:][valid]
    out.path[:, 1:][valid] = env.position(after)
    if out.privileged is not None:
        out.privileged[valid] = env.privileged(states[:, :-1][valid])
    if not rewards:
        return
    episode = np.nonzero(valid)[0]
    reward = env.reward(states[:, :-1][valid], out.action[valid], after, task[episode])
    out.reward[valid] = reward
    check_rewards(env, reward, np.nonzero(valid)[1])


def check_rewards(env: Environment, reward: np.ndarray, step: np.ndarray) -> None:
    """Refuse rewards that are not finite.

    Args:
        env: The definition.
        reward: ``[K]``.
        step: ``[K]`` of their episodes, for the message.

    Raises:
        SimulationError: One is not.
    """
    if not np.isfinite(reward).all():
        raise SimulationError(
            "reward is not finite",
            where=f"{env.env_id}, step {int(step[np.argmin(np.isfinite(reward))])}",
            expected="finite numbers",
            fix="check the environment's reward",
        )


def check_action(env: Environment, action: np.ndarray, step: int) -> None:
    """Refuse actions that are not finite or outside the space.

    Args:
        env: The definition.
        action: ``[N, action_dim]``.
        step: Of the episode, for the message.

    Raises:
        SimulationError: One is.
    """
    if not (np.abs(action) <= 1.0).all():
        raise SimulationError(
            "policy gave an action that is not finite or outside the space",
            where=f"{env.env_id}, step {step}",
            expected="numbers in [-1, 1]",
            fix="check the checkpoint with `python -m pipeline.verify`",
        )
