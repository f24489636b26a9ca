"""A gripper that is led through space: what sawyer-push and sawyer-door share.

An action moves a target (MuJoCo's mocap body) by up to a centimetre along each axis, and a weld
draws the hand after it. The arm is a picture: it carries nothing and touches nothing.

Source: baselines.md section 4.1; the models are this project's own, of primitive shapes.
"""

from __future__ import annotations

from functools import cached_property
from typing import ClassVar

import mujoco
import numpy as np

from smac_core.envs.definition import Environment
from smac_core.envs.mujoco_physics import MujocoPhysics, compile_mjcf
from smac_core.errors import ConfigError

FRAME_SKIP, TIMESTEP = 5, 0.01  # s
STEP_LENGTH = 0.01  # m, of the target at full action
LOWEST, HIGHEST = np.array([-0.5, 0.4, 0.05]), np.array([0.5, 1.0, 0.5])  # m, of the target
FINGER_CENTRE = np.array([0.0, 0.0, -0.035])  # m, from the hand, which always points down
POSE = 7  # numbers of a free body's position and quaternion
HAND = slice(0, 3)  # of a state row: the hand's joint comes first

# Shapes of `hand` touch those of `thing` and nothing else; the table is one of these.
SCENE = """
<mujoco model="{name}">
  <compiler angle="radian"/>
  <option timestep="0.01" integrator="Euler" cone="elliptic" impratio="3">
    <flag island="disable"/>
  </option>
  <visual>
    <global offwidth="640" offheight="480"/>
    <headlight ambient="0.4 0.4 0.4" diffuse="0.5 0.5 0.5" specular="0 0 0"/>
  </visual>
  <default>
    <geom contype="0" conaffinity="0" friction="1 0.1 0.002"/>
    <default class="hand"><geom contype="1" conaffinity="2" rgba="0.25 0.27 0.3 1"/></default>
    <default class="thing"><geom contype="2" conaffinity="3"/></default>
    <default class="picture"><geom rgba="0.75 0.2 0.15 1"/></default>
  </default>
  <asset>
    <texture name="sky" type="skybox" builtin="gradient" rgb1="0.9 0.93 0.96" rgb2="0.6 0.7 0.8"
      width="64" height="64"/>
  </asset>
  <worldbody>
    <light pos="0.3 0.2 2" dir="-0.1 0.2 -1" directional="true" diffuse="0.5 0.5 0.5"/>
    <camera name="track" pos="0.7 0.15 0.6" xyaxes="0.557 0.83 0 -0.423 0.284 0.859"/>
    <camera name="robotview_zoomed" pos="0 1.3 0.5" euler="-0.78 0 3.14159265"/>
    <geom name="table" class="thing" type="plane" size="0.7 0.45 0.1" pos="0 0.75 0"
      rgba="0.82 0.76 0.66 1"/>
    <geom class="picture" type="cylinder" fromto="0 0 0 0 0 0.5" size="0.07"/>
    <site name="shoulder" pos="0 0 0.5"/>
    <body name="target" mocap="true" pos="{hand}"/>
    <body name="hand" pos="{hand}" gravcomp="1">
      <freejoint/>
      <inertial pos="0 0 0" mass="{mass}" diaginertia="0.04 0.04 0.04"/>
      <geom name="palm" class="hand" type="box" size="0.045 0.03 0.018" pos="0 0 0.02"/>
      <geom name="left_finger" class="hand" type="box" size="0.013 0.009 0.023"
        pos="-0.019 0 -0.021"/>
      <geom name="right_finger" class="hand" type="box" size="0.013 0.009 0.023"
        pos="0.019 0 -0.021"/>
      <geom class="picture" type="cylinder" fromto="0 0 0.038 0 0 0.09" size="0.035"/>
      <site name="wrist" pos="0 0 0.09"/>
    </body>
    {things}
  </worldbody>
  <tendon>
    <spatial name="arm" width="0.03" rgba="0.75 0.2 0.15 1">
      <site site="shoulder"/><site site="wrist"/>
    </spatial>
  </tendon>
  <equality>
    <weld body1="target" body2="hand" solref="0.02 1" solimp="{firm} {firm} 0.001"/>
  </equality>
</mujoco>
"""


def scene(name: str, hand: np.ndarray, things: str, mass: float, firm: float) -> str:
    """Write the MJCF of a table, the hand, and something to handle.

    Args:
        name: Of the model.
        hand: ``[3]`` where the hand starts (m).
        things: Bodies, as MJCF; their joints come after the hand's.
        mass: Of the hand (kg); with ``firm`` it says how hard the hand can press.
        firm: Impedance of the weld, up to 0.9999.

    Returns:
        MJCF.
    """
    place = " ".join(str(float(x)) for x in hand)
    return SCENE.format(name=name, hand=place, things=things, mass=mass, firm=firm)


class HandPhysics(MujocoPhysics):
    """Simulators of a led hand; a state row is qpos, qvel and the target's position.

    Args:
        model: Of ``scene``: one mocap body, no actuators.
        num: How many simulators.
    """

    def __init__(self, model: mujoco.MjModel, num: int) -> None:
        super().__init__(model, num, FRAME_SKIP, lambda d: (d.qpos, d.qvel, d.mocap_pos))
        self._target = slice(model.nq + model.nv, model.nq + model.nv + 3)
        # The kernel writes the new target where it writes other robots' controls.
        self._ctrl_address = np.array([d.mocap_pos.ctypes.data for d in self.data], dtype=np.int64)
        self._ctrl = np.zeros((num, 3))

    def _place(self, data: mujoco.MjData, start: np.ndarray) -> None:
        """Put the target where the hand starts."""
        data.mocap_pos[0] = start[HAND]

    def _control(self, action: np.ndarray) -> None:
        """Move the targets, and keep them within the box."""
        np.clip(action, -1.0, 1.0, out=self._ctrl)
        self._ctrl *= STEP_LENGTH
        self._ctrl += self.previous[:, self._target]
        np.clip(self._ctrl, LOWEST, HIGHEST, out=self._ctrl)


def start_of(model: mujoco.MjModel) -> np.ndarray:
    """Return the start that the MJCF describes: everything in its place and at rest.

    Args:
        model: Of ``scene``.

    Returns:
        ``[nq + nv]`` float64.
    """
    return np.concatenate([model.qpos0, np.zeros(model.nv)])


def finger_centre(hand: np.ndarray) -> np.ndarray:
    """Find the point between the fingertips.

    Args:
        hand: ``[N, 3]`` (m).

    Returns:
        ``[N, 3]`` (m).
    """
    centre: np.ndarray = hand + FINGER_CENTRE
    return centre


def distance(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Measure how far points are apart, row by row.

    Args:
        one: ``[N, 2 or 3]`` (m).
        two: The same.

    Returns:
        ``[N]`` (m).
    """
    square = (one[:, 0] - two[:, 0]) ** 2 + (one[:, 1] - two[:, 1]) ** 2
    if one.shape[1] == 3:
        square = square + (one[:, 2] - two[:, 2]) ** 2
    apart: np.ndarray = np.sqrt(square)
    return apart


class LedHand(Environment):
    """A table, the hand, and something to handle, from one start; both are observed as places.

    Args:
        reward: One of ``rewards``.

    Attributes:
        hand_start: ``[3]`` where the hand starts (m).
        hand_mass: Of the hand (kg).
        firm: Impedance of the weld.
        things: What there is to handle, as MJCF.
        rewards: Names of the rewards that there are.
    """

    obs_dim = 6
    action_dim = 3
    control_seconds = FRAME_SKIP * TIMESTEP
    num_tasks = (20, 20)
    seen_from_above = True

    hand_start: ClassVar[np.ndarray]
    hand_mass: ClassVar[float]
    firm: ClassVar[float]
    things: ClassVar[str]
    rewards: ClassVar[tuple[str, ...]]

    def __init__(self, reward: str) -> None:
        if reward not in self.rewards:
            raise ConfigError(
                "unknown reward",
                where=f"environment {self.env_id}",
                expected=", ".join(self.rewards[:-1]) + f" or {self.rewards[-1]}",
                found=reward,
                fix="correct env.params.reward in the config",
            )
        self.variant = reward

    def sample_tasks(self, seed: int, num_train: int, num_test: int) -> np.ndarray:
        """Draw every parameter uniformly within its limits."""
        shape = (num_train + num_test, len(self.task_low))
        return np.random.default_rng(seed).uniform(self.task_low, self.task_high, shape)

    def load_model(self) -> mujoco.MjModel:
        """Compile the table, the hand and the things."""
        mjcf = scene(self.env_id, self.hand_start, self.things, self.hand_mass, self.firm)
        return compile_mjcf(mjcf)

    @cached_property
    def _start(self) -> np.ndarray:
        return start_of(self.load_model())

    def initial_state(self, rng: np.random.Generator) -> np.ndarray:
        """Return the one start."""
        return self._start.copy()

    def make_physics(self, num: int) -> HandPhysics:
        """Build tables that step together."""
        return HandPhysics(self.load_model(), num)
