"""Walker2d that must walk under unknown dynamics. Source: smac-reference section 7."""

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

LEG = ("thigh", "leg", "foot")
BODIES = ("torso", *LEG, *(f"{part}_left" for part in LEG))
LOWEST, HIGHEST = 0.8, 2.0  # m, height of the torso
MAX_PITCH = 1.0  # rad


class WalkerParam(DynamicsParam):
    """Walk forward on two legs; a fall is terminal."""

    env_id = "walker-param"
    gym_id = "SMAC/WalkerParam-v0"
    # The file with feet of friction 0.9 and 1.9, as the original; walker2d_v5.xml has 1.9 twice.
    mjcf = "walker2d.xml"
    bodies = BODIES
    obs_dim = 17
    action_dim = 6
    initial_dim = 18
    task_fields = multiplied(BODIES)
    task_low = powers(BODIES, -EXPONENT)
    task_high = powers(BODIES, EXPONENT)

    def terminated(self, state: np.ndarray) -> np.ndarray:
        """Tell which walkers have fallen: height outside 0.8 to 2 m, or pitch beyond ±1 rad."""
        height, pitch = state[:, HEIGHT], state[:, PITCH]
        upright: np.ndarray = (height > LOWEST) & (height < HIGHEST) & (np.abs(pitch) < MAX_PITCH)
        return ~upright
