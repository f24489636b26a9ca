"""MuJoCo simulators stepped from compiled code: numba calls the library's functions by address.

The module loads the library of the installed ``mujoco`` package without importing that package.
"""

from __future__ import annotations

import ctypes
import importlib.util
from pathlib import Path
from typing import Any, TypeAlias

import llvmlite.binding
import numpy as np
import numpy.typing as npt
from numba import carray, cfunc, types  # type: ignore[attr-defined]

from kernels._jit import B1_1, F8_2, I8_1, I8_2, OUT_B1_1, OUT_F8_2, helper, intrinsic, jit

MAX_STATE = 1e10  # mjMAXVAL: MuJoCo calls a simulator beyond it unstable

Doubles: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]
Bools: TypeAlias = npt.NDArray[np.bool_]


def _load_library() -> ctypes.CDLL:
    """Load libmujoco from beside the installed package's ``__init__``."""
    spec = importlib.util.find_spec("mujoco")
    if spec is None or spec.origin is None:
        raise ImportError("the package mujoco is not installed")
    folder = Path(spec.origin).parent
    found = sorted([*folder.glob("libmujoco*.so*"), *folder.glob("libmujoco*.dylib")])
    if not found:
        raise ImportError(f"no libmujoco in {folder}")
    return ctypes.CDLL(str(found[0]))


_LIBRARY = _load_library()


def _external(name: str) -> types.ExternalFunction:
    """Make ``void name(const mjModel*, mjData*)`` callable; cached code finds it by its name."""
    address = ctypes.cast(getattr(_LIBRARY, name), ctypes.c_void_p).value
    llvmlite.binding.add_symbol(name, address)
    return types.ExternalFunction(name, types.void(types.intp, types.intp))


_mj_step = _external("mj_step")
_mj_rne_post_constraint = _external("mj_rnePostConstraint")


@intrinsic
def _doubles_at(typingctx: Any, address: Any) -> Any:
    """Turn an address into a pointer to float64."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], context.get_value_type(signature.return_type))

    pointer = types.CPointer(types.float64)  # type: ignore[no-untyped-call]
    return pointer(types.int64), codegen


@helper
def _copy_row(
    field_address: Ints, field_size: Ints, row: int, out_state: Doubles, out_ok: Bools
) -> None:
    """Copy the fields of one simulator into its row, and note whether it is sound."""
    column = 0
    sound = True
    for f in range(field_size.size):
        source = carray(_doubles_at(field_address[row, f]), (field_size[f],))
        for j in range(field_size[f]):
            value = source[j]
            out_state[row, column + j] = value
            sound &= abs(value) <= MAX_STATE  # False for nan
        column += field_size[f]
    out_ok[row] = sound


@helper
def _check_fields(
    active: Bools, field_address: Ints, field_size: Ints, out_state: Doubles, out_ok: Bools
) -> None:
    """Raise ValueError unless the shapes fit together."""
    num = active.size
    if field_address.shape != (num, field_size.size):
        raise ValueError(
            "field_address: expected a row for each simulator, a column for each field"
        )
    if out_ok.size != num or out_state.shape[0] != num:
        raise ValueError("out_state, out_ok: expected one row for each simulator")
    if field_size.size > 0 and field_size.min() < 0:
        raise ValueError("field_size: negative")
    if out_state.shape[1] != field_size.sum():
        raise ValueError("out_state: width differs from the sum of field_size")


@jit(types.void(B1_1, I8_2, I8_1, OUT_F8_2, OUT_B1_1))
def copy_fields(
    active: Bools, field_address: Ints, field_size: Ints, out_state: Doubles, out_ok: Bools
) -> None:
    """Copy fields of the active simulators into their rows; other rows stay as they are.

    Args:
        active: ``[N]`` which simulators to read.
        field_address: ``[N, F]`` addresses of float64 arrays.
        field_size: ``[F]`` their lengths.
        out_state: ``[N, S]``, the fields of a simulator one after another, S = Σ field_size.
        out_ok: ``[N]`` whether every value of the row is finite and within ``MAX_STATE``.

    Raises:
        ValueError: The shapes do not fit together.
    """
    _check_fields(active, field_address, field_size, out_state, out_ok)
    for i in range(active.size):
        if active[i]:
            _copy_row(field_address, field_size, i, out_state, out_ok)


@jit(
    types.void(
        I8_1, I8_1, B1_1, F8_2, types.int64, types.boolean, I8_1, I8_2, I8_1, OUT_F8_2, OUT_B1_1
    )
)
def step_batch(
    model_address: Ints,
    data_address: Ints,
    active: Bools,
    ctrl: Doubles,
    frame_skip: int,
    post_constraint: bool,
    ctrl_address: Ints,
    field_address: Ints,
    field_size: Ints,
    out_state: Doubles,
    out_ok: Bools,
) -> None:
    """Advance the active simulators by one control step and copy their fields.

    The addresses must be those of live objects; rows of inactive simulators stay as they are.

    Args:
        model_address: ``[N]`` addresses of mjModel; simulators may share one.
        data_address: ``[N]`` addresses of mjData, each its own.
        active: ``[N]`` which simulators to advance.
        ctrl: ``[N, nu]`` actuator controls, in the actuators' units.
        frame_skip: Physics steps a control step.
        post_constraint: Whether to compute contact forces (``cfrc_ext``) after the last step.
        ctrl_address: ``[N]`` addresses of ``MjData.ctrl``.
        field_address: ``[N, F]`` addresses of float64 arrays.
        field_size: ``[F]`` their lengths.
        out_state: ``[N, S]``, the fields of a simulator one after another, S = Σ field_size.
        out_ok: ``[N]`` whether every value of the row is finite and within ``MAX_STATE``.

    Raises:
        ValueError: The shapes do not fit together.
    """
    _check_fields(active, field_address, field_size, out_state, out_ok)
    num = active.size
    if model_address.size != num or data_address.size != num or ctrl_address.size != num:
        raise ValueError("model_address, data_address, ctrl_address: expected one each a simulator")
    if ctrl.shape[0] != num:
        raise ValueError("ctrl: expected one row for each simulator")
    if frame_skip < 0:
        raise ValueError("frame_skip: negative")
    for i in range(num):
        if not active[i]:
            continue
        target = carray(_doubles_at(ctrl_address[i]), (ctrl.shape[1],))
        for j in range(ctrl.shape[1]):
            target[j] = ctrl[i, j]
        for _ in range(frame_skip):
            _mj_step(model_address[i], data_address[i])
        if post_constraint:
            _mj_rne_post_constraint(model_address[i], data_address[i])
        _copy_row(field_address, field_size, i, out_state, out_ok)


@cfunc(types.void(types.voidptr))
def _ignore(message: Any) -> None:
    """Take a warning and do nothing."""


def silence_warnings() -> None:
    """Stop MuJoCo from printing warnings and writing them to MUJOCO_LOG.TXT, in this process.

    A simulator that diverges is reported through ``out_ok`` instead.
    """
    ctypes.c_void_p.in_dll(_LIBRARY, "mju_user_warning").value = _ignore.address


def stop_timers() -> None:
    """Let MuJoCo stop timing its own stages, in this process: about a tenth of a step's cost.

    The ``mujoco`` package installs a clock when it is imported, so this must come afterwards;
    ``MjData.timer`` then stays 0. Nothing else depends on it.
    """
    ctypes.c_void_p.in_dll(_LIBRARY, "mjcb_time").value = None
