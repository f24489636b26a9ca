"""One place for the compiler's options, the types of signatures, and the compiled code's cache.

Kernels that Python calls are compiled by ``jit(signature)``: for one signature, when their module
is imported, and then kept on disk. A wrong dtype, rank or memory order is therefore a TypeError of
the call, never a second compilation; and two processes that compile at once write the same files.
Functions that only kernels call are compiled by ``helper`` into their callers.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba import extending, njit, types
from numba.core import config
from numba.core.typing import templates

Function = TypeVar("Function", bound=Callable[..., object])

# Compiled files carry no trace of the helpers inlined into them, so the whole package is the key.
_SOURCES = Path(__file__).resolve().parent


def _read_only(dtype: types.Type, ndim: int) -> types.Array:
    """Return the type of an input array; NumPy arrays with and without write access match it."""
    return types.Array(dtype, ndim, "C", readonly=True)


# Inputs are named by dtype and rank; outputs (which must be writable) carry the prefix OUT.
F4_1, F4_2 = _read_only(types.float32, 1), _read_only(types.float32, 2)
F8_2 = _read_only(types.float64, 2)
I8_1, I8_2 = _read_only(types.int64, 1), _read_only(types.int64, 2)
B1_1 = _read_only(types.boolean, 1)
OUT_F4_1, OUT_F4_2, OUT_F4_3 = (types.Array(types.float32, ndim, "C") for ndim in (1, 2, 3))
OUT_F8_1, OUT_F8_2 = (types.Array(types.float64, ndim, "C") for ndim in (1, 2))
OUT_I8_1 = types.Array(types.int64, 1, "C")
OUT_B1_1 = types.Array(types.boolean, 1, "C")


def source_digest(folder: Path = _SOURCES) -> str:
    """Digest everything that compiled code depends on, apart from the processor.

    Numba itself tells processors apart.

    Args:
        folder: Holds the sources.

    Returns:
        Hexadecimal digest of the sources and of the numba and Python versions.
    """
    digest = hashlib.sha256(f"{numba.__version__} {platform.python_version()}".encode())
    for path in sorted(folder.glob("*.py")):
        digest.update(f"\n{path.name} {path.stat().st_size}\n".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:24]


def _is_writable(folder: Path) -> bool:
    """Whether the folder exists, or can be made, and takes a file."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _private_folder() -> Path:
    """Make a temporary folder that no other user can write: compiled code is executed."""
    folder = Path(tempfile.gettempdir()) / f"smac-kernels-{os.getuid()}"
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
        if status.st_uid == os.getuid() and stat.S_IMODE(status.st_mode) == 0o700:
            return folder
    return Path(tempfile.mkdtemp(prefix="smac-kernels-"))


def cache_folder() -> Path:
    """Choose the folder of compiled code.

    Returns:
        ``$SMAC_CACHE_DIR``, ``$XDG_CACHE_HOME`` or ``~/.cache``, then ``smac-kernels/<digest>``; a
        private temporary folder where none of that can be written.
    """
    chosen = os.environ.get("SMAC_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME")
    root = Path(chosen).absolute() if chosen else Path(os.path.expanduser("~")) / ".cache"
    folder = root / "smac-kernels" / source_digest()
    return folder if _is_writable(folder) else _private_folder() / source_digest()


config.CACHE_DIR = str(cache_folder())  # type: ignore[attr-defined]

# No fastmath anywhere: the dense kernels ask for fused multiply-add themselves (kernels._simd), and
# the order of every sum is part of the result.


def jit(signature: templates.Signature) -> Callable[[Function], Function]:
    """Compile a function that Python calls, for one signature, and keep the result on disk.

    It releases the GIL. Its annotations remain for the type checker.

    Args:
        signature: Types of the arguments and of the result.

    Returns:
        The decorator.
    """
    decorator = njit(signature, cache=True, nogil=True, error_model="numpy")
    return cast("Callable[[Function], Function]", decorator)


def helper(function: Function) -> Function:
    """Compile a function into the kernels that call it; it has no place on disk of its own.

    Args:
        function: Called by compiled code alone.

    Returns:
        The compiled function.
    """
    return cast("Function", njit(nogil=True, error_model="numpy")(function))


def inlined(function: Function) -> Function:
    """Put a function's text into the compiled functions that call it.

    For small functions of arrays in inner loops: a call of a ``helper`` counts references of every
    array, one atomic operation each, which can cost more than its work.

    Args:
        function: Called by compiled code alone.

    Returns:
        The function to call.
    """
    decorator = njit(nogil=True, error_model="numpy", inline="always")
    return cast("Function", decorator(function))


def intrinsic(generator: Callable[..., object]) -> Any:
    """Make a generator of LLVM code callable from kernels; the callers' types are numba's affair.

    Args:
        generator: Takes numba's typing context and the types of the arguments.

    Returns:
        The function that compiled code calls, without the typing context.
    """
    return extending.intrinsic(generator)
