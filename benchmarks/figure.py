"""Draws rates against sizes from ``results.json``: ``python -m benchmarks.figure <picture>``."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

RESULTS = Path(__file__).with_name("results.json")
COLUMNS = 2
OURS, BASELINE = "-o", "--s"


def curves(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """Group rows into curves.

    Args:
        rows: Of the results file.

    Returns:
        By name, then by what a curve is of: points of size and rate. Ours come first, ``ours, …``.
    """
    panels: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for row in rows:
        if not row["count"] or not row["unit"].endswith("/s"):
            continue
        lines = panels.setdefault(row["name"].removesuffix("-lean"), {})
        what = f"{row['series']}, {row['threads']} thread(s), {row['device']}"
        for key, rate in ((f"ours, {what}", row["ours"]), (row["against"], row["baseline"])):
            # Baselines know nothing of our threads: the first measurement of a size stands.
            name = key if key.startswith("ours") else f"{key}: {row['series']}"
            points = lines.setdefault(name, [])
            if row["count"] not in dict(points):
                points.append((row["count"], rate))
    several = {
        name: {key: sorted(points) for key, points in lines.items() if len(points) > 1}
        for name, lines in panels.items()
    }
    return {name: lines for name, lines in several.items() if lines}


def _draw(axes: Axes, name: str, lines: dict[str, list[tuple[int, float]]]) -> None:
    """Draw one panel."""
    for key in sorted(lines, key=lambda key: not key.startswith("ours")):
        sizes, rates = zip(*lines[key], strict=True)
        axes.loglog(sizes, rates, OURS if key.startswith("ours") else BASELINE, label=key, ms=4)
    axes.set(title=name, xlabel="size", ylabel="a second")
    axes.grid(visible=True, alpha=0.3)
    axes.legend(fontsize=6)


def draw(rows: Sequence[dict[str, Any]]) -> Figure:
    """Draw every name that was measured at several sizes.

    Args:
        rows: Of the results file.

    Returns:
        The figure.
    """
    panels = curves(rows)
    height = -(-len(panels) // COLUMNS)
    figure = Figure(figsize=(12, 4 * height), layout="constrained")
    for place, (name, lines) in enumerate(panels.items(), start=1):
        _draw(figure.add_subplot(height, COLUMNS, place), name, lines)
    return figure


def main(picture: str) -> None:
    """Draw the results file.

    Args:
        picture: Where to.
    """
    draw(json.loads(RESULTS.read_text())["rows"]).savefig(picture, dpi=110)


if __name__ == "__main__":
    main(sys.argv[1])
