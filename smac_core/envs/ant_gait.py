"""A gait that carries the ant of ``ant_goal_ring`` towards any bearing: its hand-made expert.

Every motor follows a sine; offsets, amplitudes, phases and the common frequency are linear in the
bearing over a quarter circle, and the ant's own symmetry gives the other quarters. The numbers were
found by a cross-entropy search for return, on bearings all over the quarter circle.
"""

from __future__ import annotations

import numpy as np

NOISE = 0.1  # standard deviation of what is added to an action, so that episodes differ
QUARTER = 90.0  # degrees
# Motors in the model's order: hip and ankle of the legs 4, 1, 2, 3, against the clock.
SIGNS = np.array([1.0, 1.0, -1.0, -1.0])  # ankles of the legs 2 and 3 bend the other way
# At 45 degrees, and what 45 degrees more add: 8 offsets, 8 amplitudes, 8 phases (rad), ln(Hz).
MIDDLE = np.array(
    [
        -1.05,
        0.55,
        0.27,
        0.31,
        0.19,
        -0.19,
        0.52,
        0.76,
        -0.43,
        1.62,
        0.12,
        1.95,
        -1.59,
        1.38,
        1.75,
        0.92,
        -0.2,
        -2.13,
        -2.86,
        -2.98,
        -2.83,
        2.72,
        -1.21,
        0.78,
        0.46,
    ]
)
SLOPE = np.array(
    [
        -0.17,
        -0.03,
        0.47,
        -0.2,
        0.16,
        -0.32,
        -0.01,
        -0.27,
        -0.18,
        -0.32,
        -0.09,
        -0.18,
        0.19,
        0.56,
        0.04,
        0.44,
        -0.41,
        -0.74,
        -0.21,
        0.9,
        0.12,
        -0.21,
        0.19,
        0.89,
        -0.03,
    ]
)


class Gait:
    """The gait of some episodes, which remembers how far each has come.

    Args:
        bearing: ``[N]`` of the goals (degrees).
        control_seconds: Of a step.
    """

    def __init__(self, bearing: np.ndarray, control_seconds: float) -> None:
        self._turns = np.floor(bearing / QUARTER).astype(np.int64)
        place = (bearing - QUARTER * self._turns) / (0.5 * QUARTER) - 1.0
        numbers = MIDDLE + place[:, None] * SLOPE
        self._offset, self._amplitude, self._phase = np.split(numbers[:, :24], 3, axis=1)
        self._turn_rate = 2.0 * np.pi * np.exp(numbers[:, 24]) * control_seconds
        self._step = np.zeros(len(bearing))

    def act(self, rows: np.ndarray, obs: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """Take the next step of some episodes.

        Args:
            rows: ``[M]`` numbers of the episodes.
            obs: Not looked at.
            noise: ``[M, 8]`` standard normal.

        Returns:
            ``[M, 8]`` float32 in [-1, 1].
        """
        angle = self._phase[rows] + (self._turn_rate[rows] * self._step[rows])[:, None]
        self._step[rows] += 1.0
        drive = np.tanh(self._offset[rows] + self._amplitude[rows] * np.sin(angle))
        whole = turned(drive, self._turns[rows]) + NOISE * noise
        action: np.ndarray = np.clip(whole, -1.0, 1.0).astype(np.float32)
        return action


def turned(action: np.ndarray, quarters: np.ndarray) -> np.ndarray:
    """Let every leg do what its neighbour does: the same motion in another direction.

    Args:
        action: ``[N, 8]``.
        quarters: ``[N]`` quarter circles, against the clock.

    Returns:
        ``[N, 8]``.
    """
    legs = action.reshape(len(action), 4, 2).copy()
    legs[:, :, 1] *= SIGNS
    source = (np.arange(4) - quarters[:, None]) % 4
    legs = np.take_along_axis(legs, source[:, :, None], axis=1)
    legs[:, :, 1] *= SIGNS
    return legs.reshape(action.shape)
