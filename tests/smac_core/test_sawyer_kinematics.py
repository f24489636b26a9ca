"""The arm against its published description, the inverse, and the generated URDF."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

from smac_core.envs.sawyer import kinematics as kin
from smac_core.envs.sawyer import tables as t
from smac_core.envs.sawyer.urdf import all_files
from smac_core.errors import SimulationError
from tests.smac_core.sawyer import needs_pybullet

HALF = np.pi / 2
# Joint origins as published: xyz (m) and roll, pitch, yaw (rad); every axis is z.
PUBLISHED = (
    ((0.0, 0.0, 0.08), (0.0, 0.0, 0.0)),
    ((0.081, 0.05, 0.237), (-HALF, HALF, 0.0)),
    ((0.0, -0.14, 0.1425), (HALF, 0.0, 0.0)),
    ((0.0, -0.042, 0.26), (-HALF, 0.0, 0.0)),
    ((0.0, -0.125, -0.1265), (HALF, 0.0, 0.0)),
    ((0.0, 0.031, 0.275), (-HALF, 0.0, 0.0)),
    ((0.0, -0.11, 0.1053), (-HALF, -0.17453, np.pi)),
)
FLANGE = ((0.0, 0.0, 0.0245), (0.0, 0.0, HALF))


def rotation(roll: float, pitch: float, yaw: float) -> np.ndarray:
    c, s = np.cos(pitch), np.sin(pitch)
    about_y = np.array([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])
    return kin.rotation_z(yaw) @ about_y @ kin.rotation_x(roll)


def published_flange(angles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    position, turned = np.zeros(3), np.eye(3)
    for (xyz, rpy), angle in zip((*PUBLISHED, FLANGE), (*angles, 0.0), strict=True):
        position = position + turned @ np.array(xyz)
        turned = turned @ rotation(*rpy) @ kin.rotation_z(float(angle))
    return position, turned


def configurations(num: int = 50) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.uniform([j.lower for j in t.ARM], [j.upper for j in t.ARM], (num, 7))


def test_the_flange_is_where_the_published_arm_has_it() -> None:
    turns = []
    for angles in configurations():
        position, turned = published_flange(angles)
        positions, rotations = kin.link_frames(angles)
        np.testing.assert_allclose(positions[-1], position, atol=1e-6)
        turns.append(rotations[-1].T @ turned)
    # Our gripper is mounted a quarter turn about the flange's axis from the published hand.
    quarter = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    np.testing.assert_allclose(turns, np.broadcast_to(quarter, (50, 3, 3)), atol=1e-6)


@pytest.mark.sawyer
@needs_pybullet
def test_pybullet_has_the_published_arm(tmp_path: Path) -> None:
    from smac_core.envs.sawyer.scene import load_bullet

    bullet = load_bullet()
    for name, text in all_files().items():
        (tmp_path / name).write_text(text)
    client = bullet.connect(bullet.DIRECT)
    arm = bullet.loadURDF(str(tmp_path / "arm.urdf"), useFixedBase=True, physicsClientId=client)
    worst = 0.0
    for angles in configurations():
        for number, angle in enumerate(angles):
            bullet.resetJointState(arm, number, float(angle), physicsClientId=client)
        link = bullet.getLinkState(arm, 6, computeForwardKinematics=1, physicsClientId=client)
        hand = bullet.getLinkState(arm, 10, physicsClientId=client)
        worst = max(worst, np.abs(np.array(link[4]) - published_flange(angles)[0]).max())
        np.testing.assert_allclose(hand[4], kin.hand_pose(angles)[0], atol=1e-6)
    bullet.disconnect(client)
    assert worst < 1e-6  # m; measured 6e-8


def test_roll_pitch_yaw_round_trips_at_a_right_angle_too() -> None:
    rng = np.random.default_rng(1)
    cases = [*rng.uniform(-np.pi, np.pi, (20, 3)), (0.3, HALF, 0.4), (0.3, -HALF, 0.4)]
    for roll, pitch, yaw in cases:
        turned = rotation(roll, pitch, yaw)
        np.testing.assert_allclose(rotation(*kin.roll_pitch_yaw(turned)), turned, atol=1e-9)


@pytest.mark.parametrize("side", [1, -1])
def test_the_inverse_reaches_every_corner_of_the_workspace(side: int) -> None:
    corners = np.stack(np.meshgrid(*zip(t.WORKSPACE_LOW, t.WORKSPACE_HIGH, strict=True)), -1)
    for target in corners.reshape(-1, 3):
        position, turned = kin.hand_pose(kin.solve(target, t.ARM_SEEDS[side]))
        np.testing.assert_allclose(position, target, atol=1e-6)
        np.testing.assert_allclose(turned, kin.DOWN, atol=1e-6)


def test_a_target_out_of_reach_is_refused() -> None:
    with pytest.raises(SimulationError, match=r"IK target out of reach: .* \(2.000, 0.000, 0.300"):
        kin.solve(np.array([2.0, 0.0, 0.3]), t.ARM_SEEDS[1])


def test_urdf_files_are_well_formed_and_complete() -> None:
    files = all_files()
    arm = ElementTree.fromstring(files["arm.urdf"])
    kinds = [joint.get("type") for joint in arm.findall("joint")]
    assert kinds == ["revolute"] * 7 + ["fixed"] + ["prismatic"] * 2 + ["fixed"]
    assert not any("mesh" in text for text in files.values())
    for text in files.values():
        links = {link.get("name") for link in ElementTree.fromstring(text).findall("link")}
        for joint in ElementTree.fromstring(text).findall("joint"):
            for end in ("parent", "child"):
                found = joint.find(end)
                assert found is not None
                assert found.get("link") in links
