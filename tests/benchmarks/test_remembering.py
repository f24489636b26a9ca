"""The stores of the memory rows are sound, and a stage's peak is the one that it recorded."""

from __future__ import annotations

from dataclasses import replace

from benchmarks import remembering
from benchmarks.measure import QUICK


def test_a_stage_is_measured_on_stores_of_the_asked_size(monkeypatch):
    small = replace(remembering.SHORT, rounds=1)
    monkeypatch.setattr(remembering, "SHORT", small)
    (row,) = remembering.rows("memory-relabel", QUICK)
    assert (row.size, row.unit, row.baseline) == ("point-robot, round 1", "MiB", 4096.0)
    assert 50 < row.ours < 1000
    assert row.ratio == row.baseline / row.ours
