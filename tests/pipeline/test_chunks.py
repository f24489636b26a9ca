"""Arrays on disk: the bytes are zarr-python's own, and it reads them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec

from pipeline import chunks

SHAPES = [(5,), (7, 2), (0,), (0, 3), (3, 0), (2, 3, 4), (70_000, 5), (600_000,), (1, 300_000)]
DIMS = ("time", "second", "third")


def write_with_zarr(folder: Path, array: np.ndarray) -> None:
    """Writes an array as zarr-python does."""
    target = zarr.create_array(
        store=str(folder),
        shape=array.shape,
        chunks=chunks.chunk_shape(array.shape, array.dtype.itemsize),
        dtype=array.dtype,
        fill_value=np.nan if array.dtype.kind == "f" else 0,
        compressors=[BloscCodec(cname="zstd", clevel=5, shuffle="bitshuffle"), Crc32cCodec()],
        dimension_names=DIMS[: array.ndim],
        zarr_format=3,
        config={"write_empty_chunks": True},
    )
    target[...] = array


@pytest.mark.parametrize("dtype", sorted(chunks.DATA_TYPES))
@pytest.mark.parametrize("shape", SHAPES)
def test_bytes_are_those_of_zarr(
    tmp_path: Path,
    tree: Callable[[Path], dict[str, bytes]],
    shape: tuple[int, ...],
    dtype: str,
) -> None:
    values = np.random.default_rng(len(shape)).integers(-3, 100, shape)
    array = (values % 2 == 0 if dtype == "bool" else values).astype(dtype)
    chunks.write_array(tmp_path / "ours", array, DIMS[: array.ndim])
    write_with_zarr(tmp_path / "theirs", array)
    assert tree(tmp_path / "ours") == tree(tmp_path / "theirs")
    read = chunks.read_array(tmp_path / "ours", array.shape, array.dtype)
    np.testing.assert_array_equal(read, array)
    np.testing.assert_array_equal(zarr.open_array(str(tmp_path / "ours"), mode="r")[...], array)
    files = [path for path in (tmp_path / "ours").rglob("c/**/*") if path.is_file()]
    assert len(files) == chunks.count_chunks(shape, array.dtype.itemsize)


def test_an_array_in_another_order_is_written_row_by_row(tmp_path: Path) -> None:
    array = np.asfortranarray(np.arange(12, dtype=np.float32).reshape(3, 4))
    chunks.write_array(tmp_path / "a", array.astype(">f4"), DIMS[:2])
    read = chunks.read_array(tmp_path / "a", (3, 4), np.dtype("float32"))
    np.testing.assert_array_equal(read, array)


@pytest.mark.parametrize("change", ["flip", "cut", "checksum", "long"])
def test_a_damaged_chunk_is_refused(tmp_path: Path, change: str) -> None:
    array = np.arange(400, dtype=np.int32)
    chunks.write_array(tmp_path / "a", array, DIMS[:1])
    chunk = tmp_path / "a/c/0"
    data = bytearray(chunk.read_bytes())
    if change == "flip":
        data[len(data) // 2] ^= 1
    elif change == "checksum":
        data[-1] ^= 1
    elif change == "long":
        data = bytearray(chunks._encode(np.arange(401, dtype=np.int32)))
    chunk.write_bytes(data[: 9 if change == "cut" else None])
    with pytest.raises(ValueError, match=r"checksum|reshape"):
        chunks.read_array(tmp_path / "a", (400,), np.dtype("int32"))
