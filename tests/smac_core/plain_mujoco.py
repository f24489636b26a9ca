"""The MuJoCo domains once more, written without the package: MuJoCo's Python bindings alone.

Each class loads the MJCF file as Gymnasium ships it, with MuJoCo's default flags, and computes
observation, reward and termination from ``MjData`` in scalar Python. Only the names of the task
parameters are the package's.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import ClassVar

import gymnasium
import mujoco
import numpy as np

from smac_core.envs.hopper_param import HopperParam
from smac_core.envs.walker_param import WalkerParam

ASSETS = Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets"


class Plain:
    """One simulator of one task."""

    mjcf: ClassVar[str]
    frame_skip: ClassVar[int]
    largest_control: ClassVar[float] = 1.0

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
        self.data.ctrl[:] = self.largest_control * action.astype(float)
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


class PlainGoalAnt(Plain):
    """``ant-goal-ring`` with the dense reward: weaker motors, no skipped frames."""

    mjcf, frame_skip = "ant.xml", 1

    def __init__(self, task: np.ndarray) -> None:
        super().__init__(task)
        spec = mujoco.MjSpec.from_file(str(ASSETS / self.mjcf))
        for actuator in spec.actuators:
            actuator.gear[0] = 30.0
        self.model = spec.compile()
        self.data = mujoco.MjData(self.model)

    def place(self) -> np.ndarray:
        return self.data.qpos[:2].copy()

    def contact(self) -> list[float]:
        return [min(max(float(f), -1.0), 1.0) for f in self.data.cfrc_ext.flat]

    def observe(self) -> np.ndarray:
        turned = self.data.body("torso").xmat
        return np.concatenate([self.data.qpos, self.data.qvel, self.contact(), turned])

    def away(self, x: float, y: float) -> float:
        return abs(x - self.task[0]) + abs(y - self.task[1])

    def reward(self, before: np.ndarray, after: np.ndarray, action: np.ndarray) -> float:
        effort = sum(float(a) ** 2 for a in action)
        contact = sum(f**2 for f in self.contact())
        return -self.away(*after) + 4.0 - 0.005 * effort - 0.0005 * contact + 0.05

    def terminal(self) -> bool:
        return not 0.2 <= self.data.qpos[2] <= 1.0


class PlainSparseGoalAnt(PlainGoalAnt):
    """``ant-goal-ring`` with the sparse reward."""

    def away(self, x: float, y: float) -> float:
        near = math.dist((x, y), self.task) <= 0.8
        return super().away(x, y) if near else super().away(0.0, 0.0)


class PlainHumanoid(Plain):
    """``humanoid-dir``."""

    mjcf, frame_skip, largest_control = "humanoid.xml", 5, 0.4

    def place(self) -> np.ndarray:
        mass = self.model.body_mass
        centre = sum(m * x for m, x in zip(mass, self.data.xipos, strict=True)) / sum(mass)
        return np.asarray(centre)[:2]

    def observe(self) -> np.ndarray:
        data = self.data
        parts = [data.cinert, data.cvel, data.qfrc_actuator, data.cfrc_ext]
        flat = [part.flatten() for part in parts]
        return np.concatenate([data.qpos[2:], data.qvel, *flat])

    def reward(self, before: np.ndarray, after: np.ndarray, action: np.ndarray) -> float:
        angle = self.task[0]
        dx, dy = after - before
        progress = 0.25 * (dx * math.cos(angle) + dy * math.sin(angle)) / 0.003
        control = 0.1 * sum(float(c) ** 2 for c in self.data.ctrl)
        contact = min(0.5e-6 * sum(float(f) ** 2 for f in self.data.cfrc_ext.flat), 10.0)
        return progress - control - contact + 5.0

    def terminal(self) -> bool:
        return not 1.0 <= self.data.qpos[2] <= 2.0


class PlainParam(Plain):
    """What walker and hopper share: dynamics by name, from a fresh model for each task."""

    frame_skip = 4
    fields: ClassVar[tuple[str, ...]]

    def __init__(self, task: np.ndarray) -> None:
        super().__init__(task)
        model, fresh = self.model, mujoco.MjModel.from_xml_path(str(ASSETS / self.mjcf))
        for name, factor in zip(self.fields, task, strict=True):
            what, rest = name.split("_", 1)
            if what == "mass":
                model.body(rest).mass[0] = fresh.body(rest).mass[0] * factor
            elif what == "inertia":
                body, axis = rest.rsplit("_", 1)
                number = "xyz".index(axis)
                model.body(body).inertia[number] = fresh.body(body).inertia[number] * factor
            elif what == "damping":
                model.joint(rest).damping[0] = fresh.joint(rest).damping[0] * factor
            else:
                geom = "floor" if rest == "floor" else f"{rest}_geom"
                model.geom(geom).friction[0] = fresh.geom(geom).friction[0] * factor

    def place(self) -> np.ndarray:
        return self.data.qpos[:1].copy()

    def observe(self) -> np.ndarray:
        clipped = [min(max(float(v), -10.0), 10.0) for v in self.data.qvel]
        return np.concatenate([self.data.qpos[1:], clipped])

    def reward(self, before: np.ndarray, after: np.ndarray, action: np.ndarray) -> float:
        effort = sum(float(a) ** 2 for a in action)
        return float(after[0] - before[0]) / 0.008 + 1.0 - 0.001 * effort


class PlainWalker(PlainParam):
    """``walker-param``."""

    mjcf = "walker2d.xml"
    fields = WalkerParam.task_fields

    def terminal(self) -> bool:
        _, height, pitch = self.data.qpos[:3]
        return not (0.8 < height < 2.0 and -1.0 < pitch < 1.0)


class PlainHopper(PlainParam):
    """``hopper-param``."""

    mjcf = "hopper.xml"
    fields = HopperParam.task_fields

    def terminal(self) -> bool:
        state = np.concatenate([self.data.qpos, self.data.qvel])
        _, height, pitch = state[:3]
        return not (height > 0.7 and abs(pitch) < 0.2 and all(abs(v) < 100.0 for v in state[2:]))
