"""Checks every store, checkpoint and manifest: python -m pipeline.verify results/."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from pipeline import cli
from pipeline.checkpoint import read_checkpoint
from pipeline.manifest import path_digest, read_manifest
from pipeline.store import check_store
from smac_core.errors import SmacError, StoreError


def _artifacts(root: Path) -> Iterator[tuple[Path, Callable[[Path], object]]]:
    """Yields what can be checked, each with its check; names that begin with a dot are skipped."""
    for parent, folders, names in os.walk(root):
        stores = sorted(name for name in folders if name.endswith(".zarr") and name[0] != ".")
        folders[:] = sorted(name for name in folders if name not in stores and name[0] != ".")
        for name in stores:
            yield Path(parent, name), check_store
        for name in sorted(names):
            if name.startswith("."):
                continue
            if name.endswith(".safetensors"):
                yield Path(parent, name), read_checkpoint
            elif name == "manifest.json" or name.endswith(".manifest.json"):
                yield Path(parent, name), read_manifest


def _check_entry(path: Path, recorded: str, manifest: Path, role: str) -> None:
    if path_digest(path) != recorded:
        raise StoreError(
            f"{role} is not the one that was recorded",
            where=path,
            expected=f"the digest in {manifest}",
            fix="run snakemake, or restore the file",
        )


def _entry_checks(root: Path, manifest: Path) -> Iterator[Callable[[], None]]:
    document = read_manifest(manifest)
    for role in ("output", "input"):
        for entry in document[f"{role}s"].values():
            path = Path(os.path.normpath(manifest.parent / entry["path"]))
            # An input from outside may have stayed on another machine; it is not ours to judge.
            if role == "output" or path.resolve().is_relative_to(root.resolve()):
                yield partial(_check_entry, path, entry["digest"], manifest, role)


def find_faults(root: Path) -> tuple[int, list[str]]:
    """Checks everything under a folder, and what the manifests there say of their files.

    Args:
        root: The folder of the results.

    Returns:
        How many stores, checkpoints and manifests were checked, and one line per fault.
    """
    checked = 0
    faults: dict[str, None] = {}  # ordered, and one line for a fault that two checks see

    def check(call: Callable[[], object]) -> bool:
        try:
            call()
        except SmacError as fault:
            faults[str(fault)] = None
            return False
        return True

    for path, reader in _artifacts(root):
        checked += 1
        if check(partial(reader, path)) and reader is read_manifest:
            for entry in _entry_checks(root, path):
                check(entry)
    return checked, list(faults)


def main(arguments: argparse.Namespace) -> None:
    """Prints one line per fault and a summary.

    Args:
        arguments: With `results`, the folder.

    Raises:
        StoreError: There is no such folder, nothing in it, or a fault.
    """
    root = arguments.results
    if not root.is_dir():
        raise StoreError("there is no such folder", where=root, fix="run snakemake first")
    checked, faults = find_faults(root)
    for fault in faults:
        print(fault)
    if not checked:
        raise StoreError("there is nothing to check", where=root, fix="run snakemake first")
    if faults:
        raise StoreError(f"{len(faults)} faults", where=f"{checked} files of {root}")
    print(f"{checked} stores, checkpoints and manifests under {root} are sound")


def build_parser() -> cli.Parser:
    """Builds the command line.

    Returns:
        The parser.
    """
    parser = cli.Parser("python -m pipeline.verify", description=__doc__)
    parser.add_argument("results", type=Path, nargs="?", default=Path("results"), help="folder")
    return parser


if __name__ == "__main__":
    cli.stage_main(main, build_parser())
