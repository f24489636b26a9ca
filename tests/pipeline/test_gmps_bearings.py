"""Returns of the ant by the bearing of its goal."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from pipeline import cli, gmps_bearings
from pipeline.files import write_text
from pipeline.report_comparison_tables import csv_text


def test_a_range_pairs_the_gain_and_keeps_its_upper_end():
    bearing = np.array([10.0, 90.0, 100.0, 135.0, 136.0])
    before = np.array([1.0, 3.0, 5.0, 7.0, 9.0])
    seeds = [{0: before + seed, 2: before + seed + 2.0} for seed in range(3)]
    rows = gmps_bearings.range_rows(["ring", "gmps"], bearing, seeds)
    assert [(row[2], row[3], row[4], row[-2], row[-1]) for row in rows] == [
        (low, high, explored, 3, tasks)
        for low, high, tasks in ((0.0, 90.0, 2), (90.0, 135.0, 2), (135.0, 180.0, 1))
        for explored in (0, 2)
    ]
    assert [row[5] for row in rows[::2]] == pytest.approx([3.0, 7.0, 10.0])
    np.testing.assert_allclose([row[8:11] for row in rows[1::2]], 2.0)


def test_a_range_without_goals_has_no_row():
    seeds = [{0: np.ones(2), 2: np.ones(2)}]
    rows = gmps_bearings.range_rows(["ring", "gmps"], np.array([20.0, 40.0]), seeds)
    assert {row[3] for row in rows} == {90.0}


def test_the_figure_comes_from_the_table_alone(tmp_path, capsys):
    def call(*words: object) -> int:
        parser = gmps_bearings.make_parser()
        return cli.run(gmps_bearings.run, parser, [*map(str, words), "--out", str(tmp_path)])

    assert call() == 2
    assert "no such table" in capsys.readouterr().err
    assert call("--results", tmp_path) == 2
    assert "no finished run" in capsys.readouterr().err
    rows = [["ring", "gmps", seed, 30.0, n, 1.0] for seed in (0, 1) for n in (0, 2)]
    head = gmps_bearings.HEADS[gmps_bearings.GOALS]
    write_text(tmp_path / gmps_bearings.GOALS, csv_text([head, *rows]))
    assert call() == 0
    assert (tmp_path / "gmps-ant-goals.png").stat().st_size > 1000
    with (tmp_path / gmps_bearings.GOALS).open() as file:
        assert len(list(csv.DictReader(file))) == 4
