"""Hopper that must hop under unknown dynamics. Source: smac-reference section 7."""

from __future__ import annotations

import numpy as np

from smac_core.envs.dynamics_param import (
    EXPONENT,
    HEIGHT,
    PITCH,
    DynamicsParam,
    multiplied,
    powers,
)

BODIES = ("torso", "thigh", "leg", "foot")
LOWEST = 0.7  # m, height of the torso
MAX_PITCH = 0.2  # rad
MAX_STATE = 100.0  # of pitch, joint angles and all velocities


class HopperParam(DynamicsParam):
    """Hop forward on one leg; a fall is terminal."""

    env_id = "hopper-param"
    gym_id = "SMAC/HopperParam-v0"
    mjcf = "hopper.xml"
    bodies = BODIES
    obs_dim = 11
    action_dim = 3
    initial_dim = 12
    task_fields = multiplied(BODIES)
    task_low = powers(BODIES, -EXPONENT)
    task_high = powers(BODIES, EXPONENT)

    def terminated(self, state: np.ndarray) -> np.ndarray:
        """Tell which hoppers have fallen: height to 0.7 m, pitch from ±0.2 rad, or a wild state."""
        height, pitch = state[:, HEIGHT], state[:, PITCH]
        tame = (np.abs(state[:, PITCH:]) < MAX_STATE).all(axis=1)
        upright: np.ndarray = tame & (height > LOWEST) & (np.abs(pitch) < MAX_PITCH)
        return ~upright
