"""What GMPS needs of its parts: a table and a figure of a preset whose arms change one thing each.

`python -m pipeline.gmps_ablations --preset config/gmps-ablations.yaml --out docs/results` gathers
the table from the preset's finished runs and draws it; without `--preset` it draws the table that
is there.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import config as cf
from pipeline import report_style as style
from pipeline.cli import Parser, stage_main
from pipeline.files import write_text
from pipeline.gmps_figures import Table, names, numbers, save
from pipeline.gmps_tables import RETURN, Rows, read_measured, read_table
from pipeline.intervals import bootstrap_interval
from pipeline.report_comparison_tables import csv_text
from pipeline.store import read_store
from smac_core.errors import StoreError

TABLE, FIGURE = "gmps-ablations.csv", "gmps-ablations"
HEAD = [
    *("environment", "arm", "label", "question", "unadapted", "mean", "low", "high"),
    *("difference", "difference_low", "difference_high", "seeds", "tasks"),
]


def make_parser() -> argparse.ArgumentParser:
    """Describe the arguments."""
    parser = Parser("python -m pipeline.gmps_ablations", description="Draw GMPS's ablations.")
    told = "preset whose arms have run; none: draw the table that is there"
    parser.add_argument("--preset", default=None, help=told)
    parser.add_argument("--out", type=Path, required=True, help="folder of table and figure")
    return parser


def returns_of(run: cf.RunConfig, env: str, method: str) -> tuple[np.ndarray, np.ndarray]:
    """Read what one arm reaches.

    Args:
        run: The preset.
        env: The environment.
        method: The arm, or the method that arms are based on.

    Returns:
        Returns of the un-adapted and of the adapted policy, ``[S, T]`` each.

    Raises:
        StoreError: A seed has not been evaluated.
    """
    found = []
    for seed in run.seeds:
        path = Path(run.results, env, method, f"seed{seed}", "round0/evaluate/returns.zarr")
        if not path.exists():
            fix = "finish it with `snakemake --configfile config/gmps-ablations.yaml`"
            raise StoreError("an unfinished run", where=path, expected="an evaluation", fix=fix)
        store = read_store(path, "evaluation")
        explored = store.arrays["arms/test_online/episode_return"].shape[-1] - 1
        measured = read_measured(store)
        found.append([measured[number][RETURN[0]] for number in (0, explored)])
    before, after = np.moveaxis(np.array(found), 1, 0)
    return before, after


def gather(run: cf.RunConfig) -> Rows:
    """Compare every arm with what it is based on.

    Args:
        run: The preset.

    Returns:
        A row an arm; differences are paired in seed and task.
    """
    rows: Rows = []
    for env in run.envs:
        for method in cf.methods_of(run, env):
            arm = run.arms.get(method)
            before, after = returns_of(run, env, method)
            mean = bootstrap_interval(after)
            cells: list[object] = [float(before.mean()), mean.mean, mean.low, mean.high]
            if arm is None:
                cells += [float("nan")] * 3
            else:
                less = bootstrap_interval(after - returns_of(run, env, arm.of)[1])
                cells += [less.mean, less.low, less.high]
            label = cf.method_config(run, method).label
            question = arm.question if arm is not None else ""
            rows.append([env, method, label, question, *cells, *after.shape])
    return rows


def draw(table: Table, folder: Path) -> None:
    """Draw every arm's return after adaptation, and the difference from what it is based on.

    Args:
        table: Its rows.
        folder: Where the figure goes.
    """
    shown = names(table, "environment")
    height = 1.3 + 0.3 * len(table) / len(shown)
    figure, panels = style.grid(2 * len(shown), 2, height)
    for number, env in enumerate(shown):
        rows = [row for row in table if row["environment"] == env]
        left, right = panels[2 * number : 2 * number + 2]
        at = np.arange(len(rows))
        look: dict[str, Any] = {"linestyle": "none", "capsize": 3}
        mean, low, high = (numbers(rows, name) for name in ("mean", "low", "high"))
        ends = (mean - low, high - mean)
        told: dict[str, Any] = {"label": "adapted", "color": style.colour(0), "marker": "o"}
        left.errorbar(mean, at, xerr=ends, **look, **told)
        left.plot(numbers(rows, "unadapted"), at, "D", color=style.OFFLINE, label="un-adapted")
        left.set_yticks(at, [row["label"] for row in rows])
        left.set_title(env)
        left.set_xlabel("return on validation tasks")
        arms = [row["difference"] != "" for row in rows]
        own = [row for row in rows if row["difference"]]
        columns = ("difference", "difference_low", "difference_high")
        less, low, high = (numbers(own, name) for name in columns)
        ends = (less - low, high - less)
        dot: dict[str, Any] = {"color": style.colour(0), "marker": "o"}
        right.errorbar(less, at[arms], xerr=ends, **look, **dot)
        right.axvline(0.0, color=style.TEXT, linewidth=1.0)
        right.set_yticks(at, [""] * len(rows))
        right.set_ylim(left.get_ylim())
        right.set_xlabel("difference from the first row")
        for axes in (left, right):
            axes.invert_yaxis()
    save(figure, panels, folder, FIGURE)


def run(args: argparse.Namespace) -> None:
    """Gather where a preset is given, and draw.

    Args:
        args: Parsed arguments.
    """
    if args.preset is not None:
        rows = gather(cf.read_run(args.preset))
        write_text(args.out / TABLE, csv_text([HEAD, *rows]))
    with style.styled():
        draw(read_table(args.out / TABLE, HEAD), args.out)


if __name__ == "__main__":
    stage_main(run, make_parser())
