"""Curves against size: ours by threads, each baseline once, nothing of a single size."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np

from benchmarks.figure import curves, draw
from benchmarks.measure import Label, make_row


def row(name: str, count: int, threads: int = 1, unit: str = "rows/s") -> dict[str, object]:
    label = Label(name, f"{count} rows", unit, threads, series="rows", count=count)
    return asdict(make_row(label, "torch", np.full(3, 1 / count), np.full(3, 1.0)))


def test_curves_and_their_figure():
    rows = [row("relabel", n, t) for t in (1, 2) for n in (1000, 10)]
    rows += [
        row("relabel-zarr", 10),
        row("stage-start", 10, unit="s"),
        row("stage-start", 20, unit="s"),
    ]
    found = curves(rows)
    assert list(found) == ["relabel"]
    assert list(found["relabel"]) == [
        "ours, rows, 1 thread(s), cpu",
        "torch: rows",
        "ours, rows, 2 thread(s), cpu",
    ]
    assert [size for size, _ in found["relabel"]["torch: rows"]] == [10, 1000]
    figure = draw(rows)
    assert [axes.get_title() for axes in figure.axes] == ["relabel"]
    assert len(figure.axes[0].lines) == 3
