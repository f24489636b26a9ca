"""Runs the real workflow on a preset, as a user would."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PRESET = ROOT / "config/test.yaml"


def words(folder: Path, *arguments: str, cores: int = 2, preset: Path = PRESET) -> list[str]:
    where = ["--snakefile", ROOT / "Snakefile", "--configfile", preset, "--directory", folder]
    line = [sys.executable, "-m", "snakemake", "--nocolor", "--cores", cores, *where, *arguments]
    return [str(word) for word in line]


def environment() -> dict[str, str]:
    # The Snakefile sets what its jobs need; a run must not lean on ours.
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def snakemake(folder: Path, *arguments: str, cores: int = 2, preset: Path = PRESET) -> str:
    done = subprocess.run(
        words(folder, *arguments, cores=cores, preset=preset),
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=3600,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-10000:]
    return said
