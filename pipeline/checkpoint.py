"""Checkpoints as safetensors through NumPy: no torch to read them, no pickle anywhere."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from pipeline import files
from pipeline.schema import Array
from pipeline.store import array_digest
from smac_core.errors import CheckpointError

SCHEMA_VERSION = 1
_RESERVED = {"schema_version", "kind", "sha256"}
# What safetensors can hold and NumPy can read back.
_TYPES = {"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"}


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint in memory, checked: tensors by name, metadata, digest of both."""

    path: Path
    tensors: dict[str, Array]
    metadata: dict[str, Any]
    digest: str


def _digest(tensors: Mapping[str, Array], metadata: Mapping[str, object]) -> str:
    content = {
        "metadata": metadata,
        "tensors": {name: array_digest(tensor) for name, tensor in tensors.items()},
    }
    return hashlib.sha256(files.json_bytes(content)).hexdigest()


def _plain_tensors(path: Path, tensors: Mapping[str, Array]) -> dict[str, Array]:
    """Makes every tensor contiguous: safetensors writes the memory as it lies."""
    plain = {}
    for name, tensor in tensors.items():
        array = np.asarray(tensor, order="C")
        if array.dtype.str[1:] not in _TYPES:
            raise CheckpointError("wrong type of tensor", where=f"{path}:{name}", found=array.dtype)
        plain[name] = array
    return plain


def write_checkpoint(
    path: Path | str, tensors: Mapping[str, Array], metadata: Mapping[str, object]
) -> str:
    """Writes a checkpoint, whole or not at all; equal content gives equal bytes.

    Args:
        path: The file, ending in `.safetensors`.
        tensors: Arrays by name: parameters, optimiser moments, counters, states of generators.
        metadata: JSON values, such as `env_id`, configuration and lineage.

    Returns:
        Digest of tensors and metadata, as read_checkpoint gives it.

    Raises:
        CheckpointError: A tensor or a value that the format cannot hold.
        OutputError: No space, no permission, or a read-only file system.
    """
    path = Path(path)
    if reserved := sorted(_RESERVED & set(metadata)):
        raise CheckpointError("the metadata key is taken", where=path, found=", ".join(reserved))
    plain = _plain_tensors(path, tensors)
    try:
        own = json.loads(files.json_bytes(dict(metadata)))
    except (TypeError, ValueError) as error:
        raise CheckpointError("a metadata value is no JSON", where=path, found=error) from error
    digest = _digest(plain, own)
    full = {**own, "schema_version": SCHEMA_VERSION, "kind": "checkpoint", "sha256": digest}
    # One key only: safetensors keeps metadata in a hash map, whose order changes between runs.
    text = json.dumps(full, sort_keys=True, separators=(",", ":"))
    files.write_bytes(path, save(plain, metadata={"smac": text}))
    return digest


def _parse(path: Path, data: bytes) -> tuple[dict[str, Array], dict[str, Any]]:
    fix = files.rerun(path)
    try:
        tensors = load(data)
        (length,) = struct.unpack_from("<Q", data)
        header = json.loads(data[8 : 8 + length])
        metadata = json.loads(header["__metadata__"]["smac"])
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError) as fault:
        raise CheckpointError(
            "the checkpoint is damaged", where=path, found=fault, fix=fix
        ) from fault
    if not isinstance(metadata, dict) or metadata.get("kind") != "checkpoint":
        raise CheckpointError("the file is no checkpoint of this project", where=path, fix=fix)
    return tensors, metadata


def _check_shapes(
    path: Path, tensors: Mapping[str, Array], expect: Mapping[str, tuple[int, ...]]
) -> None:
    for name, shape in expect.items():
        if name not in tensors:
            raise CheckpointError("the checkpoint lacks a tensor", where=path, expected=name)
        if tensors[name].shape != tuple(shape):
            found = tensors[name].shape
            raise CheckpointError(
                "wrong shape", where=f"{path}:{name}", expected=tuple(shape), found=found
            )


def read_checkpoint(
    path: Path | str,
    *,
    env_id: str | None = None,
    expect: Mapping[str, tuple[int, ...]] | None = None,
) -> Checkpoint:
    """Reads a checkpoint and checks everything that can be checked.

    Args:
        path: The file.
        env_id: The environment that its metadata must name; any when None.
        expect: Shape by name of tensors that must be there; others may be there too.

    Returns:
        The checkpoint; its tensors belong to the caller.

    Raises:
        CheckpointError: Missing, damaged, of another schema, environment or shape.
    """
    path = Path(path)
    fix = files.rerun(path)
    if not path.is_file():
        raise CheckpointError("there is no such checkpoint", where=path, fix=fix)
    tensors, metadata = _parse(path, path.read_bytes())
    if metadata.get("schema_version") != SCHEMA_VERSION:
        found = metadata.get("schema_version")
        raise CheckpointError(
            "another schema", where=path, expected=SCHEMA_VERSION, found=found, fix=fix
        )
    own = {name: value for name, value in metadata.items() if name not in _RESERVED}
    digest = _digest(tensors, own)
    if digest != metadata.get("sha256"):
        raise CheckpointError("the checkpoint is damaged", where=path, fix=fix)
    if env_id is not None and own.get("env_id") != env_id:
        found = own.get("env_id")
        raise CheckpointError("wrong environment", where=path, expected=env_id, found=found)
    _check_shapes(path, tensors, expect or {})
    return Checkpoint(path, tensors, own, digest)
