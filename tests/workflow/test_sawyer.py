"""The real workflow on Sawyer Manipulation, with PyBullet's simulators in worker processes."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from pipeline.store import read_store
from tests.workflow.real_run import ROOT, snakemake

pytest.importorskip("pybullet", reason="Sawyer Manipulation needs PyBullet")
pytestmark = pytest.mark.workflow


def test_the_preset_for_sawyer_runs_from_tasks_to_report(tmp_path: Path) -> None:
    snakemake(tmp_path, preset=ROOT / "config/sawyer-test.yaml")
    results = tmp_path / "results/sawyer-test"
    folder = results / "sawyer-manipulation"
    rollout = read_store(folder / "smac/seed0/round1/rollout/transitions.zarr", "transitions")
    assert "data/reward" not in rollout.arrays, "the agent acts without rewards"
    returns = read_store(folder / "oracle/seed0/round1/evaluate/returns.zarr", "evaluation")
    last = returns.arrays["arms/test_online/episode_return"][..., -1]
    assert ((last >= -50) & (last <= 0)).all(), "0 or -1 in each of 50 steps"
    with (results / "summary.csv").open() as file:
        assert {row["environment"] for row in csv.DictReader(file)} == {"sawyer-manipulation"}
    assert "each behaviour, by its script" in (results / "report.html").read_text()
    assert (results / "figures/pictures_sawyer-manipulation.png").stat().st_size > 10_000
