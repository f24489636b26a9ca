"""A batch of MuJoCo simulators stepped from compiled code, without Python per simulator."""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path

import mujoco
import numpy as np

from kernels.mujoco_step import copy_fields, silence_warnings, step_batch, stop_timers
from smac_core.errors import SimulationError


def gymnasium_asset(name: str) -> str:
    """Find an MJCF file of the installed Gymnasium package.

    Args:
        name: File name, such as ``half_cheetah.xml``.

    Returns:
        Its path.

    Raises:
        SimulationError: Gymnasium is not installed, or has no such file.
    """
    spec = importlib.util.find_spec("gymnasium")
    root = Path(spec.origin).parent if spec is not None and spec.origin else Path("gymnasium")
    path = root / "envs" / "mujoco" / "assets" / name
    if not path.is_file():
        raise SimulationError(
            "missing MJCF file",
            where=path,
            expected="a model of the Gymnasium package",
            fix="reinstall gymnasium at the version in constraints.txt",
        )
    return str(path)


def load_mjcf(name: str) -> mujoco.MjModel:
    """Load a model of the Gymnasium package, without MuJoCo's notes on standard error.

    Args:
        name: File name, such as ``half_cheetah.xml``.

    Returns:
        The model; a simulator of it that diverges stays visibly diverged.

    Raises:
        SimulationError: There is no such file.
    """
    return _prepared(mujoco.MjModel.from_xml_path(gymnasium_asset(name)))


def compile_mjcf(text: str) -> mujoco.MjModel:
    """Compile a model of this package, as ``load_mjcf`` loads one of Gymnasium's.

    Args:
        text: MJCF.

    Returns:
        The model; a simulator of it that diverges stays visibly diverged.
    """
    return _prepared(mujoco.MjModel.from_xml_string(text))


def _prepared(model: mujoco.MjModel) -> mujoco.MjModel:
    silence_warnings()
    stop_timers()
    # MuJoCo would otherwise reset a diverged simulator in silence.
    model.opt.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_AUTORESET)
    # One robot is one island: without the search for others a step costs 5 to 10 % less, and gives
    # the same bits (a test compares).
    model.opt.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_ISLAND)
    return model


def sum_of_squares(values: np.ndarray) -> np.ndarray:
    """Add up the squares of each row, whatever rows stand beside it, to the same bit.

    Args:
        values: ``[N, n]``.

    Returns:
        ``[N]`` float64.
    """
    squares = np.square(values, dtype=np.float64)
    # NumPy sums a C-ordered row by itself, in an order that depends on its length alone.
    total: np.ndarray = np.ascontiguousarray(squares).sum(axis=1)
    return total


class MujocoPhysics:
    """N simulators of one model; the state row of each is a concatenation of MjData fields.

    Args:
        model: The model, shared by all simulators.
        num: How many simulators.
        frame_skip: Physics steps a control step.
        fields: From MjData, the float64 arrays that make up a state row, in order; qpos and qvel
            come first.
        post_constraint: Whether to compute contact forces (``cfrc_ext``), which MuJoCo itself no
            longer does, at the start and after every control step.
        configure: Writes the parameters of a task into a model that may hold those of another
            task; None: tasks share one model.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        num: int,
        frame_skip: int,
        fields: Callable[[mujoco.MjData], Sequence[np.ndarray]],
        *,
        post_constraint: bool = False,
        configure: Callable[[mujoco.MjModel, np.ndarray], None] | None = None,
    ) -> None:
        self._configure = configure
        self._models = [model if configure is None else copy.copy(model) for _ in range(num)]
        self.model = self._models[0]
        self.data = [mujoco.MjData(model) for _ in range(num)]
        self.frame_skip = frame_skip
        self.post_constraint = post_constraint
        views = [list(fields(d)) for d in self.data]
        self._keep_alive = views
        self._model_address = np.array([m._address for m in self._models], dtype=np.int64)
        self._data_address = np.array([d._address for d in self.data], dtype=np.int64)
        self._ctrl_address = np.array([d.ctrl.ctypes.data for d in self.data], dtype=np.int64)
        self._field_address = np.array([[v.ctypes.data for v in row] for row in views], np.int64)
        self._field_size = np.array([v.size for v in views[0]], dtype=np.int64)
        width = int(self._field_size.sum())
        self.state = np.zeros((num, width))
        self.previous = np.zeros((num, width))
        self.ok = np.ones(num, dtype=bool)
        self._ctrl = np.zeros((num, model.nu))
        low, high = model.actuator_ctrlrange.T
        self._half = 0.5 * (high - low)
        self._middle = low + self._half

    def reset(self, initial: np.ndarray, tasks: np.ndarray) -> None:
        """Put every simulator into its start state and run the forward kinematics.

        Args:
            initial: ``[N, nq + nv]`` positions and velocities.
            tasks: ``[N, task_dim]``; written into the models where ``configure`` says how.
        """
        nq = self.model.nq
        rows = zip(self._models, self.data, initial, tasks, strict=True)
        for model, data, start, task in rows:
            if self._configure is not None:
                self._configure(model, task)
            mujoco.mj_resetData(model, data)
            self._place(data, start)
            data.qpos[:] = start[:nq]
            data.qvel[:] = start[nq:]
            mujoco.mj_forward(model, data)
            if self.post_constraint:
                mujoco.mj_rnePostConstraint(model, data)
        active = np.ones(len(self.data), dtype=bool)
        copy_fields(active, self._field_address, self._field_size, self.state, self.ok)
        self._refuse_huge()
        self.previous[:] = self.state

    def step(self, action: np.ndarray, active: np.ndarray) -> None:
        """Advance the active simulators by one control step.

        Args:
            action: ``[N, action_dim]`` in [-1, 1], mapped linearly to the control range.
            active: ``[N]`` bool.
        """
        self.state, self.previous = self.previous, self.state
        self.state[:] = self.previous
        self._control(action)
        step_batch(
            self._model_address,
            self._data_address,
            active,
            self._ctrl,
            self.frame_skip,
            self.post_constraint,
            self._ctrl_address,
            self._field_address,
            self._field_size,
            self.state,
            self.ok,
        )
        self._refuse_huge()

    def _place(self, data: mujoco.MjData, start: np.ndarray) -> None:
        """Set what a start state says besides positions and velocities; here nothing."""

    def _control(self, action: np.ndarray) -> None:
        """Compute what is written for every simulator before it steps: its actuators' controls."""
        np.maximum(action, -1.0, out=self._ctrl)
        np.minimum(self._ctrl, 1.0, out=self._ctrl)
        self._ctrl *= self._half
        self._ctrl += self._middle

    def _refuse_huge(self) -> None:
        """Show a simulator beyond MuJoCo's own limit, which counts as diverged, as nan."""
        if not self.ok.all():
            self.state[~self.ok] = np.nan
