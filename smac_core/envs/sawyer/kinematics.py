"""Where the hand is, and the damped least-squares inverse; NumPy alone, from the tables."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from smac_core.envs.sawyer.tables import ARM, SITE
from smac_core.errors import SimulationError

DOWN = np.diag([1.0, -1.0, -1.0])  # the hand's orientation: pointing down, fingers along world y
DAMPING = 1e-4
ITERATIONS = 500
LONGEST_TURN = 0.2  # rad an iteration, norm over joints
TOLERANCE = 1e-7  # m and rad


def rotation_x(angle: float) -> np.ndarray:
    """Return the ``[3, 3]`` rotation about x by an angle in rad."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[1.0, 0.0, 0.0], [0.0, c, -s], [0.0, s, c]])


def rotation_z(angle: float) -> np.ndarray:
    """Return the ``[3, 3]`` rotation about z by an angle in rad."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def roll_pitch_yaw(rotation: np.ndarray) -> tuple[float, float, float]:
    """Split a rotation as URDF writes it: Rz(yaw) Ry(pitch) Rx(roll).

    Args:
        rotation: ``[3, 3]``.

    Returns:
        Roll, pitch and yaw, rad; yaw is 0 where the pitch is a right angle.
    """
    level = float(np.hypot(rotation[0, 0], rotation[1, 0]))
    pitch = float(np.arctan2(-rotation[2, 0], level))
    if level < 1e-9:  # roll and yaw turn about the same axis
        return float(np.arctan2(-rotation[1, 2], rotation[1, 1])), pitch, 0.0
    roll = float(np.arctan2(rotation[2, 1], rotation[2, 2]))
    return roll, pitch, float(np.arctan2(rotation[1, 0], rotation[0, 0]))


def joint_origin(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Place a joint in the frame of the link before it.

    Args:
        number: From 0 to 6.

    Returns:
        Position ``[3]`` (m) and rotation ``[3, 3]`` at angle 0; the joint turns about its z.
    """
    joint = ARM[number]
    # Rz(q) and Tz(d) commute, so all that does not depend on q comes first.
    tilt = rotation_x(joint.alpha)
    position = np.array([joint.a, 0.0, 0.0]) + tilt @ np.array([0.0, 0.0, joint.d])
    return position, tilt @ rotation_z(joint.offset)


def link_frames(angles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Place every link.

    Args:
        angles: ``[7]`` rad.

    Returns:
        Positions ``[7, 3]`` (m) and rotations ``[7, 3, 3]``; the last is the flange.
    """
    position, rotation = np.zeros(3), np.eye(3)
    positions, rotations = [], []
    for number, angle in enumerate(angles):
        step, turn = joint_origin(number)
        position = position + rotation @ step
        rotation = rotation @ turn @ rotation_z(float(angle))
        positions.append(position)
        rotations.append(rotation)
    return np.array(positions), np.array(rotations)


def hand_pose(angles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Place the hand, the point between the fingers.

    Args:
        angles: ``[7]`` rad.

    Returns:
        Position ``[3]`` (m) and rotation ``[3, 3]``.
    """
    positions, rotations = link_frames(angles)
    return positions[-1] + SITE * rotations[-1][:, 2], rotations[-1]


def solve(target: np.ndarray, seed: Sequence[float], rotation: np.ndarray = DOWN) -> np.ndarray:
    """Find joint angles that bring the hand to a pose, by damped least squares.

    Args:
        target: ``[3]`` m.
        seed: ``[7]`` rad, where the search begins; it decides which way the elbow bends.
        rotation: ``[3, 3]`` orientation of the hand.

    Returns:
        ``[7]`` rad, within the joints' limits.

    Raises:
        SimulationError: The pose is out of the arm's reach.
    """
    lower, upper = (np.array([getattr(j, name) for j in ARM]) for name in ("lower", "upper"))
    angles = np.array(seed, dtype=np.float64)
    for _ in range(ITERATIONS):
        positions, rotations = link_frames(angles)
        hand = positions[-1] + SITE * rotations[-1][:, 2]
        difference = rotation @ rotations[-1].T
        # The rotation's axis times the sine of its angle, as the error to first order.
        turn = 0.5 * np.array([difference[2, 1] - difference[1, 2],
                               difference[0, 2] - difference[2, 0],
                               difference[1, 0] - difference[0, 1]])  # fmt: skip
        error = np.concatenate([target - hand, turn])
        if np.abs(error).max() < TOLERANCE and np.trace(difference) > 2.0:
            return angles
        axes = rotations[:, :, 2]
        jacobian = np.concatenate([np.cross(axes, hand - positions), axes], axis=1).T
        square = jacobian @ jacobian.T + DAMPING * np.eye(6)
        step = jacobian.T @ np.linalg.solve(square, error)
        step *= min(1.0, LONGEST_TURN / max(float(np.linalg.norm(step)), 1e-12))
        angles = np.clip(angles + step, lower, upper)
    raise SimulationError(
        "IK target out of reach",
        where="sawyer arm",
        expected="a pose that the hand can take",
        found=f"({', '.join(f'{x:.3f}' for x in target)}) m",
        fix="keep targets within the workspace of the hand",
    )
