"""The MuJoCo domains once more, written without the package: MuJoCo's Python bindings alone.

Each class loads the MJCF file as Gymnasium ships it, with MuJoCo's default flags, and computes
observation, reward and termination from ``MjData`` in scalar Python.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import ClassVar

import gymnasium
import mujoco
import numpy as np

ASSETS = Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets"


class Plain:
    """One simulator of one task."""

    mjcf: ClassVar[str]
    frame_skip: ClassVar[int]

    def __init__(self, task: np.ndarray) -> None:
        self.task = task
        self.model = mujoco.MjModel.from_xml_path(str(ASSETS / self.mjcf))
        self.data = mujoco.MjData(self.model)

    def reset(self, start: np.ndarray) -> np.ndarray:
        """Begin an episode and return the observation."""
        nq = self.model.nq
        self.data = mujoco.MjData(self.model)
        self.data.qpos[:], self.data.qvel[:] = start[:nq], start[nq:]
        mujoco.mj_forward(self.model, self.data)
        mujoco.mj_rnePostConstraint(self.model, self.data)
        return self.observe()

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool]:
        """Return observation, reward and whether the state is terminal."""
        before = self.place()
        low, high = self.model.actuator_ctrlrange.T
        self.data.ctrl[:] = low + (action.astype(float) + 1.0) / 2.0 * (high - low)
        for _ in range(self.frame_skip):
            mujoco.mj_step(self.model, self.data)
        mujoco.mj_rnePostConstraint(self.model, self.data)
        return self.observe(), self.reward(before, self.place(), action), self.terminal()

    def place(self) -> np.ndarray:
        """What the reward takes differences of."""
        raise NotImplementedError

    def observe(self) -> np.ndarray:
        """Return the observation, float64."""
        raise NotImplementedError

    def reward(self, before: np.ndarray, after: np.ndarray, action: np.ndarray) -> float:
        """Return the reward of a step."""
        raise NotImplementedError

    def terminal(self) -> bool:
        """Tell whether the state is terminal."""
        raise NotImplementedError


class PlainAnt(Plain):
    """``ant-dir`` with PEARL's reward."""

    mjcf, frame_skip = "ant.xml", 5

    def place(self) -> np.ndarray:
        return self.data.body("torso").xpos[:2].copy()

    def observe(self) -> np.ndarray:
        return np.concatenate([self.data.qpos[2:], self.data.qvel])

    def progress(self, before: np.ndarray, after: np.ndarray) -> float:
        angle = self.task[0] / 180.0 * math.pi
        vx, vy = (after - before) / 0.05
        return vx * math.cos(angle) + vy * math.sin(angle)

    def reward(self, before: np.ndarray, after: np.ndarray, action: np.ndarray) -> float:
        effort = sum(float(a) ** 2 for a in action)
        contact = sum(min(max(float(f), -1.0), 1.0) ** 2 for f in self.data.cfrc_ext.flat)
        return self.progress(before, after) - 0.5 * effort - 0.0005 * contact + 1.0

    def terminal(self) -> bool:
        return not 0.2 <= self.data.qpos[2] <= 1.0


class PlainProgressAnt(PlainAnt):
    """``ant-dir`` with progress alone as its reward."""

    def reward(self, before: np.ndarray, after: np.ndarray, action: np.ndarray) -> float:
        return self.progress(before, after)

    def terminal(self) -> bool:
        return False
