"""What adaptation gives by the bearing of the goal: tables and a figure of the ant of GMPS.

`python -m pipeline.gmps_bearings --results results/gmps-ant --out docs/results` gathers two tables
from finished runs on goals of a ring and draws them; without `--results` it draws what is there.
"""

from __future__ import annotations

import argparse
import csv
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import report_style as style
from pipeline.cli import Parser, stage_main
from pipeline.files import read_json, write_text
from pipeline.intervals import bootstrap_interval
from pipeline.report_comparison_tables import csv_text
from pipeline.store import read_store
from pipeline.task_list import read_tasks
from smac_core.envs.lookup import load_environment
from smac_core.errors import StoreError

GOALS, RANGES = "gmps-ant-goals.csv", "gmps-ant-ranges.csv"
HEADS = {
    GOALS: ["environment", "method", "seed", "bearing", "explored", "mean"],
    RANGES: [
        *("environment", "method", "above", "up_to", "explored", "mean", "low", "high"),
        *("gain", "gain_low", "gain_high", "seeds", "tasks"),
    ],
}
CUTS = (0.0, 90.0, 135.0, 180.0)  # degrees
Rows = list[list[object]]


def make_parser() -> argparse.ArgumentParser:
    """Describe the arguments."""
    parser = Parser("python -m pipeline.gmps_bearings", description="Draw returns by bearing.")
    parser.add_argument("--results", type=Path, default=None, help="folder of finished runs")
    parser.add_argument("--out", type=Path, required=True, help="folder of tables and figure")
    return parser


def read_goals(seed_folder: Path) -> tuple[np.ndarray, dict[int, np.ndarray]]:
    """Read the meta-test of one seed.

    Args:
        seed_folder: ``<results>/<env>/<method>/seed<n>``.

    Returns:
        ``[T]`` bearings of the held-out goals (degrees), and by the number of exploration episodes,
        0 for the un-adapted policy, ``[T]`` returns.
    """
    manifest: Any = read_json(seed_folder / "meta_train" / "manifest.json")
    told = manifest["config"]["env"]
    env = load_environment(told["definition"], told["params"])
    goals = read_tasks(seed_folder.parents[1] / "tasks.json", env).parameters
    arrays = read_store(seed_folder / "round0/evaluate/returns.zarr", "evaluation").arrays
    goals = goals[arrays["arms/test_online/task_id"]]
    found = {}
    for name, returns in arrays.items():
        arm = re.fullmatch(r"arms/test_(prior|online|explored_\d+)/episode_return", name)
        if arm is not None:
            explored = 0 if arm[1] == "prior" else returns.shape[-1] - 1
            found[explored] = returns[..., -1].astype(np.float64).mean(axis=1)
    return np.degrees(np.arctan2(goals[:, 1], goals[:, 0])), dict(sorted(found.items()))


def range_rows(
    where: Sequence[str], bearing: np.ndarray, seeds: Sequence[dict[int, np.ndarray]]
) -> Rows:
    """Average one method over ranges of bearings.

    Args:
        where: Environment and method.
        bearing: ``[T]`` degrees.
        seeds: Of each seed, by exploration episodes, ``[T]`` returns.

    Returns:
        A row a range that has goals and number of episodes; the gain is paired with the un-adapted
        policy in the same task, and intervals resample seeds and tasks.
    """
    rows: Rows = []
    for low, high in pairwise(CUTS):
        inside = (bearing > low) & (bearing <= high)
        for explored in seeds[0] if inside.any() else ():
            table = np.stack([seed[explored][inside] for seed in seeds])
            before = np.stack([seed[0][inside] for seed in seeds])
            mean, gain = (bootstrap_interval(t) for t in (table, table - before))
            ends = [it for one in (mean, gain) for it in (one.mean, one.low, one.high)]
            rows.append([*where, low, high, explored, *ends, *table.shape])
    return rows


def gather(results: Path) -> dict[str, Rows]:
    """Read every finished run.

    Args:
        results: Folder of a preset's results.

    Returns:
        The rows of both tables.

    Raises:
        StoreError: There is none.
    """
    tables: dict[str, Rows] = {GOALS: [], RANGES: []}
    for method in sorted(results.glob("*/*/")):
        folders = [p.parents[2] for p in method.glob("seed*/round0/evaluate/returns.zarr")]
        where, seeds = [method.parent.name, method.name], []
        for folder in sorted(folders):
            bearing, returns = read_goals(folder)
            seeds.append(returns)
            tables[GOALS] += [
                [*where, folder.name.removeprefix("seed"), angle, explored, value]
                for explored, values in returns.items()
                for angle, value in zip(bearing.tolist(), values.tolist(), strict=True)
            ]
        if seeds:
            tables[RANGES] += range_rows(where, bearing, seeds)
    if not tables[GOALS]:
        raise StoreError("no finished run", where=results, fix="finish it with snakemake")
    return tables


def _draw(rows: Sequence[dict[str, str]], folder: Path) -> None:
    """Return against the bearing of the goal, a panel an environment and method."""
    panels_of = list(dict.fromkeys((row["environment"], row["method"]) for row in rows))
    figure, panels = style.grid(len(panels_of), 2, 3.2)
    for axes, (environment, method) in zip(panels, panels_of, strict=False):
        own = [r for r in rows if (r["environment"], r["method"]) == (environment, method)]
        for place, explored in enumerate(sorted({int(row["explored"]) for row in own})):
            points: dict[float, list[float]] = {}
            for row in own:
                if int(row["explored"]) == explored:
                    points.setdefault(float(row["bearing"]), []).append(float(row["mean"]))
            at = sorted(points)
            label = f"after {explored} episodes" if explored else "un-adapted"
            look: dict[str, Any] = {"color": style.colour(place), "marker": style.marker(place)}
            axes.plot(at, [np.mean(points[x]) for x in at], label=label, linewidth=1.2, **look)
        axes.set_title(f"{environment}, {method}")
        axes.set_xlabel("bearing of the held-out goal (degrees)")
        axes.set_ylabel("return, mean of the seeds")
    style.legend_below(figure, panels)
    figure.savefig(folder / "gmps-ant-goals.png", dpi=style.PIXELS, metadata={"Software": None})


def run(args: argparse.Namespace) -> None:
    """Gather where there are results, and draw.

    Args:
        args: Parsed arguments.

    Raises:
        StoreError: There is nothing to draw.
    """
    if args.results is not None:
        for name, rows in gather(args.results).items():
            write_text(args.out / name, csv_text([HEADS[name], *rows]))
    path = args.out / GOALS
    if not path.is_file():
        raise StoreError("no such table", where=path, fix="pass --results to gather it")
    with path.open() as file:
        table = list(csv.DictReader(file))
    with style.styled():
        _draw(table, args.out)


if __name__ == "__main__":
    stage_main(run, make_parser())
