"""Every Zarr store of the workflow: one table declares its arrays; here it is written and read."""

from __future__ import annotations

import hashlib
import json
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec

from pipeline import files
from pipeline.schema import (
    COMMON_ATTRIBUTES,
    EPISODE_SOURCES,
    KINDS,
    SCHEMA_VERSION,
    Array,
    ArraySpec,
    check_content,
    layout,
)
from pipeline.schema_page import markdown
from smac_core.errors import StoreError

__all__ = [
    "EPISODE_SOURCES",
    "KINDS",
    "SCHEMA_VERSION",
    "Store",
    "array_digest",
    "check_store",
    "markdown",
    "read_store",
    "recorded_array_digests",
    "recorded_digest",
    "versions",
    "write_store",
]

_CHUNK_BYTES = 1 << 20  # in time only: whole stores are read at once, few files matter more
# What a reader lets Zarr decode. No object type and no codec that could run code is on the list.
_CODECS = {"bytes", "blosc", "crc32c"}
_DATA_TYPES = {"float32", "int64", "int32", "int8", "bool"}
_PACKAGES = ("numpy", "zarr", "mujoco", "gymnasium")


@dataclass(frozen=True)
class Store:
    """A store in memory, checked. `digest` names its content, whatever wrote or compressed it."""

    path: Path
    kind: str
    arrays: dict[str, Array]
    attributes: dict[str, Any]
    array_digests: dict[str, str]
    digest: str


def array_digest(array: Array) -> str:
    """Hashes type, shape and values of an array.

    Args:
        array: Any array without objects.

    Returns:
        sha256 in hexadecimal; equal on machines of either byte order.
    """
    little = np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")
    digest = hashlib.sha256(f"{little.dtype.str}{little.shape}".encode())
    digest.update(little.reshape(-1).data)  # in place: a paper-scale array is a gigabyte
    return digest.hexdigest()


def _content_digest(kind: str, attributes: Mapping[str, object], digests: Mapping[str, str]) -> str:
    content = {"kind": kind, "version": SCHEMA_VERSION, "attributes": attributes, "arrays": digests}
    return hashlib.sha256(files.json_bytes(content)).hexdigest()


def _chunks(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    rest = tuple(max(1, size) for size in shape[1:])
    rows = _CHUNK_BYTES // (itemsize * math.prod(rest))
    return (max(1, min(rows, shape[0])), *rest)


def _write_array(folder: Path, path: str, spec: ArraySpec, array: Array) -> None:
    target = zarr.create_array(
        store=str(folder / path),
        shape=array.shape,
        chunks=_chunks(array.shape, array.dtype.itemsize),
        dtype=array.dtype,
        # An unwritten chunk reads as the fill value without a word; nan at least shows.
        fill_value=np.nan if array.dtype.kind == "f" else 0,
        compressors=[BloscCodec(cname="zstd", clevel=5, shuffle="bitshuffle"), Crc32cCodec()],
        dimension_names=spec.dims,
        zarr_format=3,
        # Else chunks of zeros or nan vanish, and a lost chunk cannot be told from an empty one.
        config={"write_empty_chunks": True},
    )
    target[...] = array


def _group_json(attributes: Mapping[str, object]) -> bytes:
    return files.json_bytes({"zarr_format": 3, "node_type": "group", "attributes": attributes})


def _walk(folder: Path) -> Iterator[str]:
    """Yields the files of a store as relative paths, without names that begin with a dot."""
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            # Snakemake puts .snakemake_timestamp into every folder that is an output.
            if not name.startswith("."):
                yield Path(parent, name).relative_to(folder).as_posix()


def versions(packages: tuple[str, ...] = _PACKAGES) -> dict[str, str]:
    """Names the installed versions of libraries without importing them.

    Args:
        packages: Names as pip knows them.

    Returns:
        Version by name; packages that are absent are left out.
    """
    found = {}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def write_store(
    path: Path | str, kind: str, arrays: Mapping[str, Array], attributes: Mapping[str, object]
) -> str:
    """Checks and writes a store, whole or not at all; a store that stands there is replaced.

    Args:
        path: Folder of the store, ending in `.zarr`.
        kind: A key of KINDS.
        arrays: Arrays by path, as the kind declares them.
        attributes: JSON values; at least those of the kind.

    Returns:
        Digest of the content, as read_store gives it.

    Raises:
        StoreError: The content does not follow the schema.
        OutputError: No space, no permission, or a read-only file system.
    """
    path = Path(path)
    try:
        plain = json.loads(files.json_bytes(dict(attributes)))
    except (TypeError, ValueError) as error:
        raise StoreError("an attribute is no JSON", where=path, found=error) from error
    specs = check_content(path, kind, arrays, plain)
    digests = {name: array_digest(arrays[name]) for name in specs}
    with files.atomic_path(path) as temporary:
        temporary.mkdir()
        for name, spec in specs.items():
            _write_array(temporary, name, spec, arrays[name])
        for group in {parent for name in specs for parent in Path(name).parents} - {Path()}:
            (temporary / group / "zarr.json").write_bytes(_group_json({}))
        recorded = {
            "schema_version": SCHEMA_VERSION,
            "kind": kind,
            "arrays": digests,
            "files": {name: files.sha256_file(temporary / name) for name in _walk(temporary)},
            "versions": versions(),
            "complete": True,
        }
        # Last, because it says that everything before it is there.
        (temporary / "zarr.json").write_bytes(_group_json(files.seal({**plain, **recorded})))
    return _content_digest(kind, plain, digests)


def _read_root(path: Path) -> dict[str, Any]:
    fix = files.rerun(path)
    if not path.is_dir():
        raise StoreError("there is no such store", where=path, fix=fix)
    if not (path / "zarr.json").is_file():
        raise StoreError("the store is half written", where=path, fix=fix)
    document = files.read_exact_json(path / "zarr.json", StoreError)
    root = document.get("attributes")
    if not isinstance(root, dict) or root.get("complete") is not True:
        raise StoreError("the store is half written", where=path, fix=fix)
    if root.get("schema_version") != SCHEMA_VERSION:
        found = f"version {root.get('schema_version')}"
        expected = f"version {SCHEMA_VERSION}"
        raise StoreError(
            "the store has another schema", where=path, expected=expected, found=found, fix=fix
        )
    maps = [root.get("arrays"), root.get("files")]
    sound = all(isinstance(part, dict) for part in maps) and set(root) >= COMMON_ATTRIBUTES
    if not sound or root != files.seal(root) or files.json_bytes(document) != _group_json(root):
        raise StoreError("the attributes are damaged", where=path, fix=fix)
    if root["kind"] not in list(KINDS):
        raise StoreError("unknown kind of store", where=path, found=repr(root["kind"]))
    return root


def _own(root: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in root.items() if name not in COMMON_ATTRIBUTES}


def recorded_digest(path: Path | str) -> str:
    """Reads the digest of a store's content from its attributes, without reading the arrays.

    Args:
        path: Folder of the store.

    Returns:
        The digest that read_store gives.

    Raises:
        StoreError: The store is missing, half written or of another schema.
    """
    root = _read_root(Path(path))
    return _content_digest(root["kind"], _own(root), root["arrays"])


def recorded_array_digests(path: Path | str) -> dict[str, str]:
    """Reads the digest of every array from the attributes, without reading the arrays.

    Args:
        path: Folder of the store.

    Returns:
        sha256 by path of the array.

    Raises:
        StoreError: The store is missing, half written or of another schema.
    """
    return dict(_read_root(Path(path))["arrays"])


def _check_files(path: Path, recorded: Mapping[str, str]) -> None:
    found = set(_walk(path)) - {"zarr.json"}
    fix = files.rerun(path)
    for name in sorted(set(recorded) - found):
        raise StoreError("a chunk is missing", where=path / name, fix=fix)
    for name in sorted(found - set(recorded)):
        raise StoreError("the file does not belong to the store", where=path / name, fix=fix)
    for name in sorted(found):
        if files.sha256_file(path / name) != recorded[name]:
            raise StoreError("the file is damaged", where=path / name, fix=fix)


def _check_metadata(path: Path) -> None:
    """Refuses array metadata that a store of ours cannot have, before Zarr acts on it."""
    metadata = files.read_json(path / "zarr.json", StoreError)
    data_type = metadata.get("data_type") if isinstance(metadata, dict) else None
    if not isinstance(metadata, dict) or data_type not in list(_DATA_TYPES):
        raise StoreError("the data type is not allowed", where=path, found=repr(data_type))
    codecs = metadata.get("codecs")
    codecs = codecs if isinstance(codecs, list) else [codecs]
    names = [codec.get("name") if isinstance(codec, dict) else codec for codec in codecs]
    if metadata.get("storage_transformers") or any(name not in list(_CODECS) for name in names):
        raise StoreError("the codec is not allowed", where=path, found=names)


def _read_array(path: Path, name: str, root: Mapping[str, Any]) -> Array:
    where = path / name
    fix = files.rerun(path)
    _check_metadata(where)
    try:
        source = zarr.open_array(str(where), mode="r", zarr_format=3)
        if source.chunks != _chunks(source.shape, source.dtype.itemsize):
            raise StoreError("unexpected chunks", where=where, found=source.chunks, fix=fix)
        stored = sum(file.startswith(f"{name}/c/") for file in root["files"])
        if stored != source.nchunks:
            expected = f"{source.nchunks} chunks"
            raise StoreError("chunks are missing", where=where, expected=expected, found=stored)
        array = np.asarray(source[...])
    except (ValueError, TypeError, KeyError, RuntimeError, MemoryError, OverflowError) as fault:
        raise StoreError("the array is damaged", where=where, found=fault, fix=fix) from fault
    if array_digest(array) != root["arrays"][name]:
        raise StoreError("the values are damaged", where=where, fix=fix)
    return array


def read_store(path: Path | str, kind: str, *, env_id: str | None = None) -> Store:
    """Reads a whole store into memory and checks everything that can be checked.

    Args:
        path: Folder of the store.
        kind: The kind that is expected.
        env_id: The environment that is expected; any when None.

    Returns:
        The store; its arrays belong to the caller.

    Raises:
        StoreError: The store is missing, half written, damaged, of another kind, schema or
            environment, or does not follow the schema.
    """
    path = Path(path)
    root = _read_root(path)
    if root["kind"] != kind:
        raise StoreError("wrong kind of store", where=path, expected=kind, found=root["kind"])
    own = _own(root)
    allowed = layout(path, kind, own)
    if env_id is not None and own["env_id"] != env_id:
        raise StoreError("wrong environment", where=path, expected=env_id, found=own["env_id"])
    if unknown := sorted(set(root["arrays"]) - set(allowed)):
        raise StoreError("the schema has no such array", where=path, found=", ".join(unknown))
    _check_files(path, root["files"])
    arrays = {name: _read_array(path, name, root) for name in allowed if name in root["arrays"]}
    check_content(path, kind, arrays, own)
    return Store(path, kind, arrays, own, root["arrays"], recorded_digest(path))


def read_arrays(
    path: Path | str, kind: str, names: Sequence[str]
) -> tuple[dict[str, Any], dict[str, Array]]:
    """Reads the attributes and a few arrays of a store, which are checked; the others are not.

    Args:
        path: Folder of the store.
        kind: The kind that is expected.
        names: Arrays that every store of the kind has.

    Returns:
        Attributes, and arrays by name.

    Raises:
        StoreError: The store is missing, half written, of another kind, or an array is damaged.
    """
    path = Path(path)
    root = _read_root(path)
    if root["kind"] != kind:
        raise StoreError("wrong kind of store", where=path, expected=kind, found=root["kind"])
    for name in names:
        if name not in root["arrays"]:
            raise StoreError("the store lacks an array", where=path, expected=name)
    return _own(root), {name: _read_array(path, name, root) for name in names}


def check_store(path: Path | str) -> None:
    """Checks a store of any kind; says nothing when it is sound.

    Args:
        path: Folder of the store.

    Raises:
        StoreError: As read_store.
    """
    read_store(path, _read_root(Path(path))["kind"])


if __name__ == "__main__":
    if sys.argv[1:] != ["--docs"]:
        raise SystemExit("usage: python -m pipeline.store --docs")
    sys.stdout.write(markdown())
