"""Pictures of a simulator: MuJoCo through EGL or OSMesa, everything else as a plain raster."""

from __future__ import annotations

import ctypes.util
import importlib
import os
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from smac_core.envs.definition import Environment, Physics
from smac_core.errors import SmacError

Image = npt.NDArray[np.uint8]

WIDTH, HEIGHT = 320, 240  # pixels, of MuJoCo's picture
SIDE = 240  # pixels, of the raster
REACH = 1.5  # metres from the middle of the raster to its edge
DOT, RING = 0.06, 0.1  # metres
MARK = 0.015  # radius of a marked spot, of the model's extent
CAMERA = "track"  # of Gymnasium's walkers; models without it get MuJoCo's free camera
BACKENDS = {"egl": "EGL", "osmesa": "OSMesa"}  # in order of preference: module, shared library


@runtime_checkable
class Renderer(Protocol):
    """Draws the first simulator of a batch."""

    def draw(self, task: np.ndarray) -> Image:
        """Return ``[height, width, 3]`` for the task ``[1, task_dim]``."""

    def close(self) -> None:
        """Free what the renderer holds."""


def make_renderer(definition: Environment, physics: Physics, *, shadows: bool = True) -> Renderer:
    """Choose how to draw an environment.

    Args:
        definition: The environment.
        physics: Its simulators; the first one is drawn.
        shadows: Whether MuJoCo draws shadows and reflections; without a graphics card they take
            two thirds of the time.

    Returns:
        The simulators' own picture where they have one, MuJoCo's renderer where they have a MuJoCo
        model, else a raster of the position.

    Raises:
        SmacError: There is a MuJoCo model and no way to draw it on this machine.
    """
    if isinstance(physics, Pictured):
        return OwnPicture(physics)
    if hasattr(physics, "model") and hasattr(physics, "data"):
        return MujocoRenderer(
            physics.model, physics.data[0], shadows=shadows, marks=definition.marks
        )
    return PositionRaster(definition, physics)


@runtime_checkable
class Pictured(Protocol):
    """Simulators that draw themselves."""

    def picture(self) -> np.ndarray:
        """Draw the first simulator, ``[height, width, 3]`` uint8."""


class OwnPicture:
    """Lets simulators draw themselves.

    Args:
        physics: The simulators.
    """

    def __init__(self, physics: Pictured) -> None:
        self._physics = physics

    def draw(self, task: np.ndarray) -> Image:
        """Draw the first simulator; the task is not drawn."""
        return self._physics.picture()

    def close(self) -> None:
        """Nothing to free."""


class PositionRaster:
    """The plane from above: a filled dot for the agent, a ring for a task that is a place.

    Args:
        definition: The environment.
        physics: Its simulators.
    """

    def __init__(self, definition: Environment, physics: Physics) -> None:
        self.definition, self.physics = definition, physics
        axis = (np.arange(SIDE) + 0.5) / SIDE * 2.0 * REACH - REACH
        self._x, self._y = axis[None, :], -axis[:, None]  # up is up

    def _distance(self, place: np.ndarray) -> npt.NDArray[np.float64]:
        distance: npt.NDArray[np.float64] = np.hypot(self._x - place[0], self._y - place[1])
        return distance

    def draw(self, task: np.ndarray) -> Image:
        """Draw the first simulator.

        Args:
            task: ``[1, task_dim]``; drawn where it has two numbers.

        Returns:
            ``[240, 240, 3]``.
        """
        image = np.full((SIDE, SIDE, 3), 255, dtype=np.uint8)
        if task.shape[1] == 2:
            image[np.abs(self._distance(task[0]) - RING) < 0.25 * RING] = (30, 130, 60)
        agent = np.clip(self.definition.position(self.physics.state)[0], -REACH, REACH)
        image[self._distance(agent) < DOT] = (30, 60, 160)
        return image

    def close(self) -> None:
        """Nothing to free."""


def choose_backend() -> str:
    """Choose how MuJoCo draws without a screen.

    Returns:
        ``egl`` or ``osmesa``: what MUJOCO_GL says, else the first whose library is installed.

    Raises:
        SmacError: Neither is installed, or MUJOCO_GL names another.
    """
    asked = os.environ.get("MUJOCO_GL", "").strip().lower()
    if asked in BACKENDS:
        return asked
    found = [name for name, library in BACKENDS.items() if ctypes.util.find_library(library)]
    if asked or not found:
        raise SmacError(
            "cannot draw MuJoCo without a screen",
            where="render",
            expected="the library EGL or OSMesa, and MUJOCO_GL unset, egl or osmesa",
            found=f"MUJOCO_GL={asked}" if asked else "neither library",
            fix="install libegl1 or libosmesa6, or leave render_mode unset",
        )
    return found[0]


class MujocoRenderer:
    """Draws one MuJoCo simulator off screen.

    Args:
        model: ``mujoco.MjModel``.
        data: ``mujoco.MjData``.
        shadows: Whether shadows and reflections are drawn.
        marks: Says for a task ``[1, task_dim]`` which spots ``[1, spots, 3]`` are drawn as balls.
        camera: Name of a camera of the model; without it MuJoCo's free camera.
        size: Width and height (pixels).
    """

    def __init__(
        self,
        model: Any,
        data: Any,
        *,
        shadows: bool = True,
        marks: Callable[[np.ndarray], np.ndarray] | None = None,
        camera: str = CAMERA,
        size: tuple[int, int] = (WIDTH, HEIGHT),
    ) -> None:
        import mujoco  # noqa: PLC0415  # only those who draw need it

        self._mujoco, self._model, self._data = mujoco, model, data
        self._marks = marks
        self._gl = _open_context(choose_backend())
        self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_150.value)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self._context)
        self._scene = mujoco.MjvScene(model, maxgeom=10_000)
        for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
            self._scene.flags[flag] = shadows and self._scene.flags[flag]
        self._options = mujoco.MjvOption()
        self._camera = mujoco.MjvCamera()
        mujoco.mjv_defaultFreeCamera(model, self._camera)
        number = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_CAMERA, camera)
        if number >= 0:
            self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
            self._camera.fixedcamid = number
        self._area = mujoco.MjrRect(0, 0, *size)

    def draw(self, task: np.ndarray) -> Image:
        """Draw the simulator as it stands.

        Args:
            task: ``[1, task_dim]``; drawn as far as it marks spots.

        Returns:
            ``[height, width, 3]``.
        """
        mujoco = self._mujoco
        self._gl.make_current()
        mujoco.mjv_updateScene(
            self._model,
            self._data,
            self._options,
            None,
            self._camera,
            mujoco.mjtCatBit.mjCAT_ALL.value,
            self._scene,
        )
        for spot in () if self._marks is None else self._marks(task)[0]:
            self._add_ball(spot)
        image = np.empty((self._area.height, self._area.width, 3), dtype=np.uint8)
        mujoco.mjr_render(self._area, self._scene, self._context)
        mujoco.mjr_readPixels(image, None, self._area, self._context)
        return image[::-1].copy()  # OpenGL's first row is the lowest

    def _add_ball(self, spot: np.ndarray) -> None:
        """Add a ball to the scene."""
        size = self._model.stat.extent * MARK
        self._mujoco.mjv_initGeom(
            self._scene.geoms[self._scene.ngeom],
            self._mujoco.mjtGeom.mjGEOM_SPHERE.value,
            np.full(3, size),
            np.asarray(spot, dtype=np.float64),
            np.eye(3).reshape(-1),
            np.array([0.1, 0.65, 0.25, 0.8], dtype=np.float32),
        )
        self._scene.ngeom += 1

    def close(self) -> None:
        """Free the graphics context."""
        self._gl.make_current()
        self._context.free()
        self._gl.free()


def _open_context(backend: str) -> Any:
    """Open a graphics context and make it current."""
    try:
        context = importlib.import_module(f"mujoco.{backend}").GLContext(WIDTH, HEIGHT)
        context.make_current()
    # PyOpenGL reports a missing or useless driver by any of these.
    except (ImportError, AttributeError, RuntimeError, OSError) as error:
        raise SmacError(
            "cannot draw MuJoCo without a screen",
            where=f"backend {backend}",
            found=str(error),
            fix="set MUJOCO_GL to egl or osmesa, whichever works here, or leave render_mode unset",
        ) from error
    return context
