"""One PyBullet client with one scene: build it, reset it, step it, read it, draw it."""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from smac_core.envs.sawyer import tables as t
from smac_core.envs.sawyer import tasks as k
from smac_core.envs.sawyer.kinematics import DOWN, solve
from smac_core.envs.sawyer.urdf import all_files
from smac_core.errors import SimulationError, SmacError

# Collision groups: who touches whom. The drawers' floors lie 9 mm inside the table (section 6.2).
ARM, HAND, DRAWER, FIXED, TABLE, FREE = (1 << n for n in range(6))
TOUCHES = {
    ARM: DRAWER | FIXED | FREE,
    HAND: DRAWER | FIXED | TABLE | FREE,
    DRAWER: ARM | HAND | FREE,
    FIXED: ARM | HAND | FREE,
    TABLE: HAND | FREE,
    FREE: ARM | HAND | DRAWER | FIXED | TABLE | FREE,
}
NUM_ARM_JOINTS = 7
PALM_LINK, LEFT, RIGHT, HAND_LINK = 7, 8, 9, 10
DOWN_QUATERNION = (1.0, 0.0, 0.0, 0.0)  # of kinematics.DOWN, as x y z w
WIDTH, HEIGHT = 320, 240  # pixels
SETTLE_STEPS = 3  # control steps without action after a reset, section 1.4


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Keep what compiled code writes to standard error from it, such as PyBullet's greeting."""
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)


def load_bullet() -> Any:
    """Import PyBullet.

    Returns:
        The module.

    Raises:
        SmacError: It is not installed.
    """
    try:
        with _silent():
            return importlib.import_module("pybullet")
    except ImportError as error:
        raise SmacError(
            "PyBullet is not installed",
            where="sawyer-manipulation",
            expected="the package pybullet, which only this environment needs",
            found=error,
            fix="install it with `pip install -c constraints.txt -e '.[sawyer]'`, which needs a"
            " compiler where PyBullet has no wheel",
        ) from None


class Scene:
    """A simulator of one task's scene.

    Args:
        folder: Where the URDF files lie.
        task: ``[11]`` the record; its behaviour does not count.
    """

    def __init__(self, folder: Path, task: np.ndarray) -> None:
        missing = [name for name in all_files() if not (folder / name).is_file()]
        if missing:
            raise SimulationError(
                "the worker has no URDF folder",
                where=folder,
                expected=", ".join(sorted(all_files())),
                found=f"no {', '.join(sorted(missing))}",
                fix="leave temporary folders alone while a run is on",
            )
        self._bullet = load_bullet()
        self._client = self._bullet.connect(self._bullet.DIRECT)
        self._folder, self.task = folder, task.copy()
        self._side = int(task[k.SIDE])
        self._hold: list[tuple[int, np.ndarray]] = []  # free bodies and where they start
        self._build()
        self._start = np.zeros(k.STATE_DIM)
        self._saved = -1
        self._begin()

    def close(self) -> None:
        """Free the client."""
        self._bullet.disconnect(physicsClientId=self._client)

    def _call(self, name: str, *args: Any, **named: Any) -> Any:
        return getattr(self._bullet, name)(*args, physicsClientId=self._client, **named)

    # Building.

    def _build(self) -> None:
        self._call("setGravity", 0.0, 0.0, t.GRAVITY)
        self._call(
            "setPhysicsEngineParameter",
            fixedTimeStep=t.CONTROL_SECONDS / t.TICKS,
            numSolverIterations=t.SOLVER_ITERATIONS,
            deterministicOverlappingPairs=1,
        )
        self.arm = self._load("arm.urdf", (0.0, 0.0, 0.0), 0.0, ARM)
        for number in (PALM_LINK, LEFT, RIGHT):
            self._group(self.arm, number, HAND)
            self._call("changeDynamics", self.arm, number, lateralFriction=t.FINGER_FRICTION)
        centre = 0.5 * (np.array(t.TABLE_LOW) + t.TABLE_HIGH)
        table = self._block(np.array(t.TABLE_HIGH) - t.TABLE_LOW, centre, 0.0, 1.0, TABLE)
        self._paint(table, (0.8, 0.78, 0.75, 1.0))
        self._build_drawers()
        self._build_rest()

    def _build_drawers(self) -> None:
        task, y = self.task, t.DRAWER_Y * self._side
        self.bottom = self.top = self.lego = -1
        if task[k.BOTTOM]:
            place = (t.DRAWER_X, y, t.LOW_DRAWER_Z)
            self.bottom = self._load("drawer.urdf", place, t.H, DRAWER)
            opened = bool(task[k.BOTTOM_OPEN])
            self._call("resetJointState", self.bottom, 0, t.TRAVEL if opened else 0.0)
            floor = t.LOW_DRAWER_Z + t.BOX_BOTTOM + t.FLOOR
            spot = (t.LEGO_X_OPEN if opened else t.LEGO_X, y, floor + 0.5 * t.LEGO[2])
            self.lego = self._free(t.LEGO, spot, t.LEGO_MASS, t.LEGO_FRICTION)
            self._paint(self.lego, (0.8, 0.65, 0.1, 1.0))
        if task[k.TOP]:
            height = t.HIGH_DRAWER_Z if task[k.BOTTOM] else t.LOW_DRAWER_Z
            turn = 0.0 if self._side == 1 else 2.0 * t.H
            self.top = self._load("handle_drawer.urdf", (t.DRAWER_X, y, height), turn, DRAWER)
            self._call("resetJointState", self.top, 0, t.TRAVEL if task[k.TOP_OPEN] else 0.0)
            self._motor(self.top, 0.0, 0.0)

    def _build_rest(self) -> None:
        task = self.task
        self.button = self.thing = -1
        if task[k.BUTTON]:
            height = t.BUTTON_Z[int(task[k.BOTTOM] + task[k.TOP])]
            place = (t.DRAWER_X, t.DRAWER_Y * self._side, height)
            self.button = self._load("button.urdf", place, 0.0, FIXED)
        if task[k.TRAY]:
            x, y = k.place_xy(task[None], k.TRAY_PLACE)[0]
            self._load("tray.urdf", (x, y, t.TABLE_HIGH[2]), 0.0, FIXED)
        if task[k.OBJECT]:
            x, y = k.place_xy(task[None], k.OBJECT_PLACE)[0]
            spot = (x, y, t.TABLE_HIGH[2] + 0.5 * t.OBJECT[2])
            self.thing = self._free(t.OBJECT, spot, t.OBJECT_MASS, t.OBJECT_FRICTION)
            self._paint(self.thing, (0.9, 0.4, 0.1, 1.0))

    def _load(self, name: str, place: tuple[float, ...], turn: float, group: int) -> int:
        path = str(self._folder / name)
        pose = self._bullet.getQuaternionFromEuler((0.0, 0.0, turn))
        try:
            body: int = self._call("loadURDF", path, place, pose, useFixedBase=True)
        except self._bullet.error as error:
            raise SimulationError("cannot load a URDF", where=path, found=error) from None
        for number in range(-1, self._call("getNumJoints", body)):
            self._group(body, number, group)
        return body

    def _block(
        self, size: np.ndarray, place: np.ndarray, mass: float, friction: float, group: int
    ) -> int:
        half = [0.5 * float(x) for x in size]
        shape = self._call("createCollisionShape", self._bullet.GEOM_BOX, halfExtents=half)
        body: int = self._call("createMultiBody", mass, shape, -1, [float(x) for x in place])
        self._call("changeDynamics", body, -1, lateralFriction=friction)
        self._group(body, -1, group)
        return body

    def _free(
        self, size: tuple[float, ...], place: tuple[float, ...], mass: float, friction: float
    ) -> int:
        body = self._block(np.array(size), np.array(place), mass, friction, FREE)
        self._hold.append((body, np.array(place)))
        return body

    def _group(self, body: int, number: int, group: int) -> None:
        self._call("setCollisionFilterGroupMask", body, number, group, TOUCHES[group])

    def _paint(self, body: int, color: tuple[float, ...]) -> None:
        self._call("changeVisualShape", body, -1, rgbaColor=color)

    def _motor(self, body: int, speed: float, force: float) -> None:
        """Drive the sliding joint of a drawer or of the button."""
        mode = self._bullet.VELOCITY_CONTROL
        self._call("setJointMotorControl2", body, 0, mode, targetVelocity=speed, force=force)

    def _begin(self) -> None:
        """Place the arm, let the scene settle, and keep the start."""
        height = t.HAND_START_OPEN_Z if self.task[k.TOP_OPEN] else t.HAND_START[2]
        target = np.array([t.HAND_START[0], t.HAND_START[1] * self._side, height])
        angles = solve(target, t.ARM_SEEDS[self._side], DOWN)
        for number, angle in enumerate(angles):
            self._call("resetJointState", self.arm, number, float(angle))
        for number in (LEFT, RIGHT):
            self._call("resetJointState", self.arm, number, t.STROKE)
        self._idle()
        idle = np.array([0.0, 0.0, 0.0, -1.0])
        for _ in range(SETTLE_STEPS):
            self._advance(idle)
        self._saved = self._call("saveState")
        self.reset()
        self._start = self.read()

    # Running.

    def reset(self) -> np.ndarray:
        """Go back to the start.

        Returns:
            ``[15]`` the state.
        """
        self._call("restoreState", self._saved)
        self._idle()
        return self.read()

    def _idle(self) -> None:
        """Set what a restored state does not hold: the motors' targets, and what is hidden."""
        self.fired, self.put_back = False, 0
        if self.bottom >= 0:
            self._motor(self.bottom, 0.0, t.HOLD_FORCE)
        if self.button >= 0:
            self._motor(self.button, 0.0, t.HOLD_FORCE)

    def step(self, action: np.ndarray) -> np.ndarray:
        """Take one control step.

        Args:
            action: ``[4]`` of the hand and the gripper, clipped to [-1, 1].

        Returns:
            ``[15]`` the state.
        """
        self._advance(np.clip(action.astype(np.float64), -1.0, 1.0))
        self._fire()
        for body, place in self._hold:
            self._contain(body, place)
        return self.read()

    def _advance(self, action: np.ndarray) -> None:
        hand = np.array(self._call("getLinkState", self.arm, HAND_LINK)[4])
        target = np.clip(hand + t.MOVE * action[:3], t.WORKSPACE_LOW, t.WORKSPACE_HIGH)
        angles = self._call(
            "calculateInverseKinematics",
            self.arm,
            HAND_LINK,
            target.tolist(),
            DOWN_QUATERNION,
            jointDamping=[t.IK_DAMPING] * (NUM_ARM_JOINTS + 2),
            maxNumIterations=t.IK_ITERATIONS,
            residualThreshold=t.IK_RESIDUAL,
        )
        opening = 0.5 * (1.0 - float(action[3])) * t.STROKE
        self._call(
            "setJointMotorControlArray",
            self.arm,
            [*range(NUM_ARM_JOINTS), LEFT, RIGHT],
            self._bullet.POSITION_CONTROL,
            targetPositions=[*angles[:NUM_ARM_JOINTS], opening, opening],
            positionGains=[t.MOTOR_GAIN] * NUM_ARM_JOINTS + [t.FINGER_GAIN] * 2,
            velocityGains=[1.0] * (NUM_ARM_JOINTS + 2),
            forces=[t.MOTOR_FORCE] * NUM_ARM_JOINTS + [t.FINGER_FORCE] * 2,
        )
        for _ in range(t.TICKS):
            self._call("stepSimulation")

    def _fire(self) -> None:
        """Let the button move the bottom drawer, once an episode (section 1.4)."""
        if self.fired or self.button < 0:
            return
        if self._call("getJointState", self.button, 0)[0] > -t.FIRE_DEPTH:
            return
        self.fired = True
        self._motor(self.button, -t.DRIVE_SPEED, t.HOLD_FORCE)  # the cap stays down
        if self.bottom >= 0:
            speed = -t.DRIVE_SPEED if self.task[k.BOTTOM_OPEN] else t.DRIVE_SPEED
            self._motor(self.bottom, speed, t.DRIVE_FORCE)

    def _contain(self, body: int, place: np.ndarray) -> None:
        """Put a block that has left the workspace back to where it started."""
        now = np.array(self._call("getBasePositionAndOrientation", body)[0])
        low = np.array(t.WORKSPACE_LOW) - t.MARGIN
        high = np.array(t.WORKSPACE_HIGH) + t.MARGIN
        if ((now < low) | (now > high)).any():
            self._call("resetBasePositionAndOrientation", body, place.tolist(), (0, 0, 0, 1))
            self._call("resetBaseVelocity", body, (0, 0, 0), (0, 0, 0))
            self.put_back += 1

    def read(self) -> np.ndarray:
        """Read the state.

        Returns:
            ``[15]``: the observation's 13 numbers, whether the button has fired, and how many
            blocks were put back.
        """
        state = np.zeros(k.STATE_DIM)
        state[k.HAND_XYZ] = self._call("getLinkState", self.arm, HAND_LINK)[4]
        left, right = self._call("getJointStates", self.arm, (LEFT, RIGHT))
        state[k.GRIPPER] = left[0] + right[0]
        for body, column in ((self.thing, k.OBJECT_XYZ), (self.lego, k.LEGO_XYZ)):
            if body >= 0:
                state[column] = self._call("getBasePositionAndOrientation", body)[0]
        if self.bottom >= 0:
            state[k.BOTTOM_X] = t.DRAWER_X + self._call("getJointState", self.bottom, 0)[0]
        if self.top >= 0:
            opening = self._call("getJointState", self.top, 0)[0]
            state[k.HANDLE_Y] = self._side * (t.DRAWER_Y - t.BAR_AHEAD - opening)
        if self.button >= 0:
            sunk = self._call("getJointState", self.button, 0)[0]
            state[k.CAP_Z] = k.button_rest_z(self.task[None])[0] + sunk
        state[k.FIRED], state[k.PUT_BACK] = float(self.fired), float(self.put_back)
        return state

    def draw(self) -> np.ndarray:
        """Draw the scene without a screen.

        Returns:
            ``[240, 320, 3]`` uint8.
        """
        view = self._bullet.computeViewMatrix((1.25, 0.0, 0.25), (0.62, 0.0, -0.28), (0, 0, 1))
        lens = self._bullet.computeProjectionMatrixFOV(50.0, WIDTH / HEIGHT, 0.05, 4.0)
        flags = self._bullet.ER_NO_SEGMENTATION_MASK
        renderer = self._bullet.ER_TINY_RENDERER
        image = self._call(
            "getCameraImage", WIDTH, HEIGHT, view, lens, renderer=renderer, flags=flags
        )[2]
        return np.asarray(image, dtype=np.uint8).reshape(HEIGHT, WIDTH, 4)[:, :, :3].copy()
