"""A checkpoint is read as it was written, or refused with one line."""

from __future__ import annotations

import json
import pickle
import random
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from pipeline import checkpoint, files
from smac_core.errors import CheckpointError, OutputError

METADATA = {"env_id": "point-robot", "update": 500, "config": {"rate": 3e-4}, "parent": None}


def tensors() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "policy/0/weight": rng.normal(size=(4, 3)).astype(np.float32),
        "policy/0/bias": np.zeros(3, dtype=np.float32),
        "adam/step": np.array(7, dtype=np.int64),
        "rng/state": np.array([2**64 - 1], dtype=np.uint64),
        "empty": np.zeros((0, 3)),
        "flags": np.array([True, False]),
    }


@pytest.fixture
def written(tmp_path: Path) -> Path:
    checkpoint.write_checkpoint(tmp_path / "c.safetensors", tensors(), METADATA)
    return tmp_path / "c.safetensors"


def refused(path: Path, match: str, **options: Any) -> None:
    with pytest.raises(CheckpointError, match=match) as caught:
        checkpoint.read_checkpoint(path, **options)
    assert "\n" not in str(caught.value)


def forge(path: Path, metadata: Any, *, seal: bool = True) -> None:
    """Writes metadata of any shape, with a right digest where that is possible."""
    if seal:
        own = {k: v for k, v in metadata.items() if k not in {"schema_version", "kind", "sha256"}}
        metadata = metadata | {"sha256": checkpoint._digest(tensors(), own)}
    path.write_bytes(save(tensors(), metadata={"smac": json.dumps(metadata)}))


def test_tensors_and_metadata_come_back(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "c.safetensors"
    digest = checkpoint.write_checkpoint(path, tensors(), METADATA)
    read = checkpoint.read_checkpoint(path, env_id="point-robot")
    assert set(read.tensors) == set(tensors())
    for name, tensor in tensors().items():
        assert read.tensors[name].dtype == tensor.dtype
        assert read.tensors[name].shape == tensor.shape
        np.testing.assert_array_equal(read.tensors[name], tensor)
        assert read.tensors[name].flags.writeable
    assert read.metadata == METADATA
    assert read.digest == digest
    assert [entry.name for entry in path.parent.iterdir()] == ["c.safetensors"]


def test_equal_content_gives_equal_bytes(tmp_path: Path) -> None:
    shuffled = dict(reversed(list(tensors().items())))
    checkpoint.write_checkpoint(tmp_path / "a", tensors(), METADATA)
    checkpoint.write_checkpoint(tmp_path / "b", shuffled, dict(reversed(METADATA.items())))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_views_and_foreign_byte_order_are_written_by_value(tmp_path: Path) -> None:
    matrix = np.arange(12, dtype=np.float32).reshape(3, 4)
    views = {"t": matrix.T, "s": matrix[:, ::2], "f": np.asfortranarray(matrix)}
    checkpoint.write_checkpoint(tmp_path / "a", views | {"big": matrix.astype(">f4")}, {})
    read = checkpoint.read_checkpoint(tmp_path / "a").tensors
    for name, view in views.items():
        np.testing.assert_array_equal(read[name], view)
    np.testing.assert_array_equal(read["big"], matrix)


@pytest.mark.parametrize(
    "tensor",
    [np.array([{}]), np.array(["a"]), np.zeros(2, dtype=complex), np.zeros(1, "M8[s]")],
)
def test_only_numbers_are_written(tmp_path: Path, tensor: np.ndarray) -> None:
    with pytest.raises(CheckpointError, match=r"wrong type of tensor: .*:x"):
        checkpoint.write_checkpoint(tmp_path / "a", {"x": tensor}, {})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("metadata", "text"),
    [({"a": {1}}, "is no JSON"), ({"a": np.nan}, "is no JSON"), ({"kind": "x"}, "key is taken")],
)
def test_only_json_is_metadata(tmp_path: Path, metadata: dict[str, Any], text: str) -> None:
    with pytest.raises(CheckpointError, match=text):
        checkpoint.write_checkpoint(tmp_path / "a", tensors(), metadata)


def test_missing_environment_and_shapes_are_named(written: Path) -> None:
    refused(written.with_name("none"), "there is no such checkpoint: .*forcerun")
    refused(written, "expected ant-dir, found point-robot", env_id="ant-dir")
    refused(written, "lacks a tensor: .*expected decoder", expect={"decoder": (1,)})
    refused(
        written,
        r"wrong shape: in .*bias, expected \(4,\), found \(3,\)",
        expect={"policy/0/bias": (4,)},
    )
    shapes = {"policy/0/weight": (4, 3), "adam/step": ()}
    assert checkpoint.read_checkpoint(written, expect=shapes).tensors["adam/step"] == 7


def test_a_flipped_bit_anywhere_is_found(written: Path) -> None:
    whole = written.read_bytes()
    (header,) = struct.unpack_from("<Q", whole)
    rng = random.Random(0)
    positions = {*range(8 + header, len(whole)), *rng.sample(range(8 + header), 300)}
    for position in sorted(positions):
        changed = bytearray(whole)
        changed[position] ^= 1 << rng.randrange(8)
        written.write_bytes(changed)
        with pytest.raises(CheckpointError):
            checkpoint.read_checkpoint(written)


def test_a_truncated_file_is_found(written: Path) -> None:
    whole = written.read_bytes()
    for size in (0, 4, 8, 100, len(whole) // 2, len(whole) - 1):
        written.write_bytes(whole[:size])
        refused(written, "damaged")
    written.write_bytes(whole + b"\0")
    refused(written, "damaged")


def test_a_pickle_is_never_loaded(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.mkdir, (tmp_path / "trace",))

    path = tmp_path / "c.safetensors"
    for data in (pickle.dumps(Bomb()), struct.pack("<Q", 2) + b"{}" + pickle.dumps(Bomb())):
        path.write_bytes(data)
        refused(path, "damaged")
    assert not (tmp_path / "trace").exists()


def test_forged_files_give_one_line(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    forge(path, {"kind": "checkpoint", "schema_version": 1})
    checkpoint.read_checkpoint(path)
    forge(path, {"kind": "checkpoint", "schema_version": 2})
    refused(path, "another schema: .*expected 1, found 2")
    forge(path, {"kind": "weights", "schema_version": 1})
    refused(path, "no checkpoint of this project")
    forge(path, [], seal=False)
    refused(path, "no checkpoint of this project")
    path.write_bytes(save(tensors()))
    refused(path, "damaged")
    path.write_bytes(save(tensors(), metadata={"smac": "["}))
    refused(path, "damaged")
    path.write_bytes(save(tensors(), metadata={"smac": "[" * 100_000}))
    refused(path, "damaged")


def test_types_that_numpy_lacks_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    header = b'{"x":{"dtype":"BF16","shape":[1],"data_offsets":[0,2]}}'
    path.write_bytes(struct.pack("<Q", len(header)) + header + b"\0\0")
    refused(path, "damaged")


def test_a_full_disk_leaves_the_old_checkpoint(full_disk: Path, tmp_path: Path) -> None:
    path = full_disk / "c.safetensors"
    path.write_bytes(b"old")
    with pytest.raises(OutputError, match="no space left on the disk"):
        checkpoint.write_checkpoint(path, {"x": np.random.default_rng(0).normal(size=10**5)}, {})
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in full_disk.iterdir()] == ["c.safetensors"]


def test_the_digest_of_the_file_is_recorded(written: Path) -> None:
    assert len(checkpoint.read_checkpoint(written).digest) == 64
    assert checkpoint.read_checkpoint(written).digest != files.sha256_file(written)
