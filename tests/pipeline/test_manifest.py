"""A manifest says what made an output, and notices when it was changed."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline import files, manifest, store
from pipeline.checkpoint import write_checkpoint
from smac_core.errors import StoreError


@dataclasses.dataclass(frozen=True)
class Section:
    updates: int = 3
    hidden: tuple[int, ...] = (4, 5)


@pytest.fixture
def outputs(tmp_path: Path, transitions: Any, attributes: Any) -> dict[str, Path]:
    folder = tmp_path / "round1"
    store.write_store(folder / "t.zarr", "transitions", transitions(), attributes())
    write_checkpoint(folder / "c.safetensors", {"x": np.zeros(3)}, {})
    files.write_text(folder / "figures" / "a.svg", "<svg/>")
    return {
        "transitions": folder / "t.zarr",
        "checkpoint": folder / "c.safetensors",
        "figures": folder / "figures",
    }


def write(path: Path, outputs: dict[str, Path] | None = None, **changes: Any) -> dict[str, Any]:
    files.write_text(path.parent.parent / "tasks.json", "{}")
    fields: dict[str, Any] = {
        "stage": "finetune",
        "config": Section(),
        "seed": 1,
        "code_digest": "00",
        "inputs": {"tasks": path.parent.parent / "tasks.json"},
        "outputs": outputs or {},
        "started": time.monotonic() - 2,
    }
    manifest.write_manifest(path, **(fields | changes))
    return manifest.read_manifest(path)


def test_a_manifest_records_the_run(tmp_path: Path, outputs: dict[str, Path]) -> None:
    document = write(tmp_path / "round1" / "manifest.json", outputs)
    assert document["stage"] == "finetune"
    assert document["config"] == {"updates": 3, "hidden": [4, 5]}
    assert document["seed"] == 1
    assert document["code_digest"] == "00"
    assert document["device"] == "cpu"
    assert document["inputs"]["tasks"] == {
        "path": "../tasks.json",
        "digest": files.sha256_file(tmp_path / "tasks.json"),
    }
    assert document["outputs"]["transitions"] == {
        "path": "t.zarr",
        "digest": store.read_store(outputs["transitions"], "transitions").digest,
    }
    assert document["outputs"]["checkpoint"]["digest"] == files.sha256_file(outputs["checkpoint"])
    assert document["array_digests"] == {
        "transitions": store.recorded_array_digests(outputs["transitions"])
    }
    assert 2 <= document["wall_time_s"] < 60
    assert 10 < document["peak_memory_mib"] < 100_000
    assert set(document["threads"]) == {"OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"}
    assert {"python", "numpy", "torch", "zarr"} <= set(document["versions"])
    assert str(tmp_path) not in json.dumps(document)


def test_extra_fields_are_added(tmp_path: Path, outputs: dict[str, Path]) -> None:
    document = write(
        tmp_path / "round1" / "manifest.json", outputs, extra={"device": "cuda", "updates": 7}
    )
    assert document["device"] == "cuda"
    assert document["updates"] == 7


def test_a_folder_is_named_by_names_and_bytes(tmp_path: Path) -> None:
    files.write_text(tmp_path / "a" / "x", "1")
    digests = {manifest.path_digest(tmp_path / "a")}
    (tmp_path / "a" / ".snakemake_timestamp").touch()
    digests.add(manifest.path_digest(tmp_path / "a"))
    assert len(digests) == 1
    files.write_text(tmp_path / "a" / "x", "2")
    digests.add(manifest.path_digest(tmp_path / "a"))
    (tmp_path / "a" / "x").rename(tmp_path / "a" / "y")
    digests.add(manifest.path_digest(tmp_path / "a"))
    assert len(digests) == 3


def test_a_manifest_survives_a_move(tmp_path: Path, outputs: dict[str, Path]) -> None:
    before = write(tmp_path / "round1" / "manifest.json", outputs)
    shutil.copytree(tmp_path / "round1", tmp_path / "elsewhere" / "round1")
    moved = tmp_path / "elsewhere" / "round1"
    document = manifest.read_manifest(moved / "manifest.json")
    assert document == before
    for entry in document["outputs"].values():
        assert manifest.path_digest(moved / entry["path"]) == entry["digest"]


@pytest.mark.parametrize("role", ["inputs", "outputs"])
def test_a_missing_file_is_named(tmp_path: Path, role: str) -> None:
    path = tmp_path / "a" / "manifest.json"
    for name in ("none.json", "none.zarr"):
        with pytest.raises(StoreError, match=rf"there is no such .*{name}"):
            write(path, **{role: {"x": tmp_path / name}})
    assert not path.exists()


def test_the_clock_must_be_the_monotonic_one(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"time.monotonic\(\)"):
        write(tmp_path / "a" / "manifest.json", started=time.time())


def test_the_commit_is_named_where_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise FileNotFoundError("git")

    def outside(*_: object, **__: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess([], 128, "", "not a repository")

    commit = write(tmp_path / "a" / "manifest.json")["git_commit"]
    assert commit is None or len(commit) == 40
    for run in (fail, outside):
        monkeypatch.setattr(manifest.subprocess, "run", run)
        assert write(tmp_path / "a" / "manifest.json")["git_commit"] is None


def test_a_change_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a" / "manifest.json"
    document = write(path)
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b'"finetune"', b'"rollouts"'))
    with pytest.raises(StoreError, match="changed after it was written"):
        manifest.read_manifest(path)
    path.write_bytes(whole + b" ")
    with pytest.raises(StoreError, match="changed after it was written"):
        manifest.read_manifest(path)
    files.write_json(path, document | {"schema_version": 2})
    with pytest.raises(StoreError, match="expected version 1, found version 2"):
        manifest.read_manifest(path)
    with pytest.raises(StoreError, match="there is no such file"):
        manifest.read_manifest(path.with_name("none.json"))


@pytest.mark.parametrize("outputs", [None, [], {"a": 1}, {"a": {}}, {"a": {"path": 1}}])
def test_a_forged_manifest_is_refused(tmp_path: Path, outputs: Any) -> None:
    path = tmp_path / "a" / "manifest.json"
    files.write_json(path, files.seal(write(path) | {"outputs": outputs}))
    with pytest.raises(StoreError, match="changed after it was written"):
        manifest.read_manifest(path)
