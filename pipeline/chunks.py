"""The arrays of a store on disk: what zarr-python writes for them, byte for byte, without its cost.

Zarr's own library starts an event loop in a second thread and asks it for every array: most of a
stage's time with small stores, and more on a busy machine. A store of ours needs one layout only:
regular chunks along the first axis, blosc, crc32c. Any Zarr reader reads it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from numcodecs import blosc

from pipeline.schema import Array

CHUNK_BYTES = 1 << 20  # in time only: whole stores are read at once, few files matter more
# What a reader decodes. No object type and no codec that could run code is on the list.
DATA_TYPES = {"float32", "int64", "int32", "int8", "bool"}
CODECS = ("bytes", "blosc", "crc32c")

blosc.use_threads = False  # one thread a process; and the same bytes for any number of cores


def chunk_shape(shape: Sequence[int], itemsize: int) -> tuple[int, ...]:
    """Chooses the chunks of an array.

    Args:
        shape: Of the array.
        itemsize: Of an element (bytes).

    Returns:
        Shape of a chunk: some rows, and everything along the other axes.
    """
    rest = tuple(max(1, size) for size in shape[1:])
    rows = CHUNK_BYTES // (itemsize * math.prod(rest))
    return (max(1, min(rows, shape[0])), *rest)


def count_chunks(shape: Sequence[int], itemsize: int) -> int:
    """Counts the chunks of an array.

    Args:
        shape: Of the array.
        itemsize: Of an element (bytes).

    Returns:
        How many files hold it; none for an array without elements.
    """
    return -(-shape[0] // chunk_shape(shape, itemsize)[0]) if math.prod(shape) else 0


def array_metadata(
    shape: Sequence[int], dtype: np.dtype[Any], dims: Sequence[str]
) -> dict[str, object]:
    """Describes an array as its zarr.json does.

    Args:
        shape: Of the array.
        dtype: Of an element.
        dims: Names of its axes.

    Returns:
        JSON values.
    """
    # An unwritten chunk reads as the fill value without a word; nan at least shows.
    fill: object = {"f": "NaN", "b": False}.get(dtype.kind, 0)
    endian = {"configuration": {"endian": "little"}} if dtype.itemsize > 1 else {}
    compression = {"cname": "zstd", "clevel": 5, "shuffle": "bitshuffle", "blocksize": 0}
    chunks = list(chunk_shape(shape, dtype.itemsize))
    return {
        "shape": list(shape),
        "data_type": dtype.name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunks}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": fill,
        "codecs": [
            {"name": "bytes", **endian},
            {"name": "blosc", "configuration": {"typesize": dtype.itemsize, **compression}},
            {"name": "crc32c"},
        ],
        "attributes": {},
        "dimension_names": list(dims),
        "zarr_format": 3,
        "node_type": "array",
        "storage_transformers": [],
    }


def write_array(folder: Path, array: Array, dims: Sequence[str]) -> None:
    """Writes an array with at least one axis.

    Args:
        folder: Where; it is made.
        array: Of one of DATA_TYPES.
        dims: Names of its axes.
    """
    folder.mkdir(parents=True)
    metadata = array_metadata(array.shape, array.dtype, dims)
    (folder / "zarr.json").write_text(json.dumps(metadata, indent=2), encoding="ascii")
    little = array.astype(array.dtype.newbyteorder("<"), order="C", copy=False)
    shape = chunk_shape(array.shape, array.dtype.itemsize)
    for number in range(count_chunks(array.shape, array.dtype.itemsize)):
        chunk = little[number * shape[0] : (number + 1) * shape[0]]
        if len(chunk) < shape[0]:  # the last one is as long as the others
            missing = (shape[0] - len(chunk), *shape[1:])
            padding = np.full(missing, np.nan if little.dtype.kind == "f" else 0, little.dtype)
            chunk = np.concatenate([chunk, padding])
        path = _chunk_path(folder, number, len(shape))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_encode(chunk))


def read_array(folder: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Reads an array whose metadata was checked, and all of whose chunks are there.

    Args:
        folder: Where.
        shape: Of the array.
        dtype: Of an element.

    Returns:
        The array; it belongs to the caller.

    Raises:
        ValueError: A chunk does not hold what it should.
        RuntimeError: A chunk is not compressed by blosc.
    """
    array = np.empty(shape, dtype=dtype)
    rows, *rest = chunk_shape(shape, dtype.itemsize)
    for number in range(count_chunks(shape, dtype.itemsize)):
        data = _chunk_path(folder, number, len(shape)).read_bytes()
        if int.from_bytes(data[-4:], "little") != google_crc32c.value(data[:-4]):
            raise ValueError("the checksum of a chunk does not match")
        values = np.frombuffer(blosc.decompress(data[:-4]), dtype=dtype.newbyteorder("<"))
        begin = number * rows
        array[begin : begin + rows] = values.reshape(rows, *rest)[: shape[0] - begin]
    return array


def _chunk_path(folder: Path, number: int, axes: int) -> Path:
    return folder.joinpath("c", str(number), *["0"] * (axes - 1))


def _encode(chunk: Array, compressor: bytes = b"zstd") -> bytes:
    values, size = chunk.reshape(-1).view(np.uint8), chunk.dtype.itemsize
    data = blosc.compress(values, compressor, 5, blosc.BITSHUFFLE, 0, size)
    packed = bytes(data)
    return packed + int(google_crc32c.value(packed)).to_bytes(4, "little")
