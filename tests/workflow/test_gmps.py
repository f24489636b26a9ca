"""The real workflow with experts and demonstrations, from tasks to report."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from pipeline.store import read_store
from tests.workflow.real_run import ROOT, snakemake

pytestmark = pytest.mark.workflow


def test_the_preset_for_gmps_runs_from_tasks_to_report(tmp_path: Path) -> None:
    snakemake(tmp_path, preset=ROOT / "config/gmps-test.yaml")
    folder = tmp_path / "results/gmps-test/point-robot"
    shown = read_store(folder / "demonstrations/transitions.zarr", "transitions")
    assert len(shown.arrays["meta/episode_ends"]) == 8
    for method in ("gmps", "maml-pg"):
        returns = read_store(folder / method / "seed1/round0/evaluate/returns.zarr", "evaluation")
        assert {"test_online", "test_prior", "test_explored_4"} <= set(returns.attributes["arms"])
    with (tmp_path / "results/gmps-test/summary.csv").open() as file:
        assert {row["method"] for row in csv.DictReader(file)} == {"gmps", "maml-pg"}
