"""manifest.json beside every output: what made it, from what, with what, and how long it took."""

from __future__ import annotations

import hashlib
import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline import files, store
from smac_core.errors import StoreError

SCHEMA_VERSION = 1
_PACKAGES = ("numpy", "numba", "torch", "mujoco", "gymnasium", "zarr", "safetensors")
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


def _tree(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not any(part.startswith(".") for part in name.split("/")):
            yield name, path


def path_digest(path: Path | str) -> str:
    """Names the content of an input or output.

    Args:
        path: A store, any other folder, or a file.

    Returns:
        Digest of the store's content, of the names and files of the folder, or of the bytes.

    Raises:
        StoreError: There is nothing at the path, or it is a store that is not whole.
    """
    path = Path(path)
    if path.suffix == ".zarr":
        return store.recorded_digest(path)
    if path.is_dir():
        tree = {name: files.sha256_file(file) for name, file in _tree(path)}
        return hashlib.sha256(files.json_bytes(tree)).hexdigest()
    if not path.is_file():
        raise StoreError("there is no such file", where=path, fix=files.rerun(path))
    return files.sha256_file(path)


def _entries(folder: Path, paths: Mapping[str, Path | str]) -> dict[str, dict[str, str]]:
    return {
        # Relative, so that a results folder can be moved or copied to another machine.
        name: {"path": os.path.relpath(path, folder), "digest": path_digest(path)}
        for name, path in paths.items()
    }


def _array_digests(outputs: Mapping[str, Path | str]) -> dict[str, dict[str, str]]:
    return {
        name: store.recorded_array_digests(path)
        for name, path in outputs.items()
        if Path(path).suffix == ".zarr"
    }


def _git_commit() -> str | None:
    """Names the commit of the source folder; None outside a repository or without git."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() if result.returncode == 0 else None


def _peak_memory_mib() -> float:
    # On Linux ru_maxrss begins with that of the process which forked this one; this mark does not.
    status = Path("/proc/self/status")
    found = (
        re.search(r"^VmHWM:\s+(\d+) kB$", status.read_text(), re.M) if status.is_file() else None
    )
    if found:
        return round(int(found[1]) / 2**10, 1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # getrusage counts bytes on macOS, else KiB.
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)


def write_manifest(  # noqa: PLR0913  one record of one run; every field is given by name
    path: Path | str,
    *,
    stage: str,
    config: object,
    seed: int | None,
    code_digest: str,
    inputs: Mapping[str, Path | str],
    outputs: Mapping[str, Path | str],
    started: float,
    extra: Mapping[str, object] | None = None,
) -> None:
    """Writes the record of one finished stage; call it after every output is in place.

    Args:
        path: The manifest, in the folder of the outputs.
        stage: Name of the stage.
        config: The resolved section: a dataclass or JSON values.
        seed: Seed of the run; None when the stage has none.
        code_digest: Digest of the stage's source.
        inputs: Files and stores read, by name.
        outputs: Files and stores written, by name, without the manifest.
        started: time.monotonic() at the start, s.
        extra: More fields, such as `device` (else "cpu").

    Raises:
        ValueError: `started` is not a time.monotonic() of this process.
        StoreError: An input or output is missing or not whole.
        OutputError: No space, no permission, or a read-only file system.
    """
    path = Path(path)
    wall_time = time.monotonic() - started
    if wall_time < 0:
        raise ValueError("started must come from time.monotonic()")
    document = {
        "schema_version": SCHEMA_VERSION,
        "stage": stage,
        "config": config,
        "seed": seed,
        "code_digest": code_digest,
        "inputs": _entries(path.parent, inputs),
        "outputs": _entries(path.parent, outputs),
        "array_digests": _array_digests(outputs),
        "versions": {"python": sys.version.split()[0], **store.versions(_PACKAGES)},
        "git_commit": _git_commit(),
        "wall_time_s": round(wall_time, 3),
        "peak_memory_mib": _peak_memory_mib(),
        "device": "cpu",
        "threads": {name: os.environ.get(name) for name in _THREADS},
        **(extra or {}),
    }
    files.write_json(path, files.seal(document))


def _are_entries(section: object) -> bool:
    return isinstance(section, dict) and all(
        isinstance(entry, dict)
        and isinstance(entry.get("path"), str)
        and isinstance(entry.get("digest"), str)
        for entry in section.values()
    )


def read_manifest(path: Path | str) -> dict[str, Any]:
    """Reads a manifest and checks that it is as it was written.

    Args:
        path: The manifest.

    Returns:
        Its fields.

    Raises:
        StoreError: Missing, changed, or of another schema.
    """
    path = Path(path)
    document = files.read_exact_json(path, StoreError)
    fix = files.rerun(path)
    if document.get("schema_version") != SCHEMA_VERSION:
        raise StoreError(
            "the manifest has another schema",
            where=path,
            expected=f"version {SCHEMA_VERSION}",
            found=f"version {document.get('schema_version')}",
            fix=fix,
        )
    sections = [document.get(name) for name in ("inputs", "outputs")]
    if document != files.seal(document) or not all(map(_are_entries, sections)):
        raise StoreError("the manifest was changed after it was written", where=path, fix=fix)
    return document
