"""`python -m pipeline.verify` finds damage wherever it is, and says nothing of a sound folder."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline import cli, files, store, verify
from pipeline.checkpoint import write_checkpoint
from pipeline.manifest import write_manifest

ROOT = Path(__file__).parents[2]


def record(path: Path, inputs: dict[str, Path], outputs: dict[str, Path]) -> None:
    write_manifest(
        path,
        stage="stage",
        config={},
        seed=0,
        code_digest="00",
        inputs=inputs,
        outputs=outputs,
        started=time.monotonic(),
    )


@pytest.fixture
def results(tmp_path: Path, transitions: Any, attributes: Any) -> Path:
    """A small tree: tasks -> collect -> meta_train."""
    root = tmp_path / "results"
    env = root / "point-robot"
    files.write_json(env / "tasks.json", {"tasks": [1, 2]})
    record(env / "tasks.manifest.json", {}, {"tasks": env / "tasks.json"})
    collected = env / "collect" / "transitions.zarr"
    store.write_store(collected, "transitions", transitions(), attributes())
    record(
        env / "collect" / "manifest.json",
        {"tasks": env / "tasks.json"},
        {"transitions": collected},
    )
    trained = env / "smac" / "seed0" / "meta_train"
    write_checkpoint(trained / "checkpoint.safetensors", {"x": np.arange(9.0)}, {"env_id": "p"})
    files.write_text(trained / "metrics.csv", "update,loss\n1,0.5\n")
    record(
        trained / "manifest.json",
        {"tasks": env / "tasks.json", "transitions": collected},
        {
            "checkpoint": trained / "checkpoint.safetensors",
            "metrics": trained / "metrics.csv",
        },
    )
    return root


def run(root: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str], str]:
    code = cli.run(verify.main, verify.build_parser(), [str(root)])
    printed = capsys.readouterr()
    return code, printed.out.splitlines(), printed.err


def test_a_sound_folder(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, lines, error = run(results, capsys)
    assert (code, error) == (0, "")
    assert lines == [f"5 stores, checkpoints and manifests under {results} are sound"]


def test_what_is_being_written_is_passed_over(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (results / ".a.zarr.tmp-1-00000000").mkdir()
    (results / ".c.safetensors").touch()
    (results / "point-robot" / "collect" / "transitions.zarr" / ".snakemake_timestamp").touch()
    assert run(results, capsys)[0] == 0


@pytest.mark.parametrize("seed", range(2))
def test_one_flipped_byte_in_any_file_is_found_and_named(results: Path, seed: int) -> None:
    rng = random.Random(seed)
    for path in sorted(path for path in results.rglob("*") if path.is_file()):
        whole = path.read_bytes()
        changed = bytearray(whole)
        changed[rng.randrange(len(whole))] ^= rng.randrange(1, 256)
        path.write_bytes(changed)
        faults = verify.find_faults(results)[1]
        # Of a damaged root the store itself is named.
        name = str(path.parent if path.parent.suffix == ".zarr" else path)
        assert any(name in fault for fault in faults), path
        path.write_bytes(whole)
    assert verify.find_faults(results)[1] == []


def test_a_deleted_file_is_found_and_named(results: Path) -> None:
    for path in sorted(path for path in results.rglob("*") if path.is_file()):
        if path.name.endswith("manifest.json"):
            continue  # what it lists is still checked by the readers of it
        whole = path.read_bytes()
        path.unlink()
        assert any(str(path.parent) in fault for fault in verify.find_faults(results)[1]), path
        path.write_bytes(whole)


def test_a_deleted_stage_is_missed_by_its_reader(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(results / "point-robot" / "collect")
    code, lines, error = run(results, capsys)
    assert code == 2
    assert len(lines) == 1
    assert lines[0].startswith("there is no such store: in ")
    assert "collect/transitions.zarr" in lines[0]
    assert error == f"error: 1 faults: in 3 files of {results}\n"


def test_an_input_that_was_replaced_is_found(
    results: Path, transitions: Any, attributes: Any
) -> None:
    collected = results / "point-robot" / "collect" / "transitions.zarr"
    store.write_store(collected, "transitions", transitions((2, 2)), attributes())
    faults = verify.find_faults(results)[1]
    assert [fault.partition(":")[0] for fault in faults] == [
        "output is not the one that was recorded",
        "input is not the one that was recorded",
    ]


def test_inputs_outside_the_folder_are_not_judged(results: Path) -> None:
    trained = results / "point-robot" / "smac"
    shutil.rmtree(results / "point-robot" / "collect")
    assert verify.find_faults(trained) == (2, [])


def test_nothing_to_check_is_a_fault(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, capsys)[2].startswith("error: there is nothing to check")
    code, lines, error = run(tmp_path / "none", capsys)
    assert (code, lines) == (2, [])
    assert error.startswith("error: there is no such folder")


def test_the_command(results: Path) -> None:
    command = [sys.executable, "-m", "pipeline.verify", str(results)]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode == 0
    metrics = results / "point-robot" / "smac" / "seed0" / "meta_train" / "metrics.csv"
    metrics.write_text("update,loss\n1,0.4\n")
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert str(metrics) in ended.stdout
    assert ended.stderr.count("\n") == 1
