"""Tables and figures of `docs/results/gmps.md`: what GMPS and MAML-PG reach, and at what cost.

`python -m pipeline.gmps_results --results results/gmps --out docs/results` gathers two tables from
finished runs and draws them; without `--results` it draws the tables that are there.
"""

from __future__ import annotations

import argparse
import csv
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import report_style as style
from pipeline.cli import Parser, stage_main
from pipeline.files import read_json, write_text
from pipeline.intervals import bootstrap_interval
from pipeline.report_comparison_tables import csv_text
from pipeline.store import read_store
from smac_core.errors import StoreError

ADAPTED, STEPS = "gmps.csv", "gmps-steps.csv"
HEADS = {
    ADAPTED: [
        *("environment", "method", "seed", "explored", "mean", "low", "high"),
        *("gain", "gain_low", "gain_high", "tasks"),
    ],
    STEPS: [
        *("environment", "method", "seed", "environment_steps", "expert_steps"),
        *("test_return", "prior_return"),
    ],
}
FINISH = "finish it with `snakemake --configfile config/gmps.yaml`"
Rows = list[list[object]]
Returns = dict[int, np.ndarray]


def make_parser() -> argparse.ArgumentParser:
    """Describe the arguments."""
    parser = Parser("python -m pipeline.gmps_results", description="Draw what GMPS reaches.")
    parser.add_argument("--results", type=Path, default=None, help="folder of finished runs")
    parser.add_argument("--out", type=Path, required=True, help="folder of tables and figures")
    return parser


def read_returns(path: Path) -> Returns:
    """Read the meta-test of one checkpoint.

    Args:
        path: An evaluation store.

    Returns:
        ``[T]`` mean return of each held-out task by the number of exploration episodes; 0: the
        un-adapted policy.
    """
    arrays = read_store(path, "evaluation").arrays
    found: Returns = {}
    for name, returns in arrays.items():
        arm = re.fullmatch(r"arms/test_(prior|online|explored_\d+)/episode_return", name)
        if arm is not None:
            explored = {"prior": 0, "online": returns.shape[-1] - 1}
            number = explored.get(arm[1]) if arm[1] in explored else int(arm[1].split("_")[1])
            assert number is not None
            found[number] = returns[..., -1].astype(np.float64).mean(axis=1)
    return dict(sorted(found.items()))


def adapted_rows(where: Sequence[str], seeds: dict[str, Returns]) -> Rows:
    """Lay out what one method reaches in one environment.

    Args:
        where: Environment and method.
        seeds: Returns by seed.

    Returns:
        A row a seed and number of exploration episodes, and one over the seeds, whose intervals
        resample seeds and tasks; the gain is paired with the un-adapted policy.
    """
    rows: Rows = []
    tables = {seed: [seed] for seed in seeds} | {"all": list(seeds)}
    for name, members in tables.items():
        for explored in next(iter(seeds.values())):
            table = np.stack([seeds[seed][explored] for seed in members])
            before = np.stack([seeds[seed][0] for seed in members])
            mean, gain = (bootstrap_interval(t) for t in (table, table - before))
            ends = [it for one in (mean, gain) for it in (one.mean, one.low, one.high)]
            rows.append([*where, name, explored, *ends, table.shape[1]])
    return rows


def step_rows(where: Sequence[str], seed: str, metrics: Path, expert: float) -> Rows:
    """Lay out the learning curve of one seed.

    Args:
        where: Environment and method.
        seed: The seed.
        metrics: metrics.csv of its training.
        expert: Steps with true reward behind its experts and their demonstrations.

    Returns:
        A row a point.
    """
    with metrics.open() as file:
        return [
            [
                *(*where, seed, row["environment_steps"], expert),
                *(row["test_return"], row["test_prior_return"]),
            ]
            for row in csv.DictReader(file)
            if row.get("test_return")
        ]


def _there(path: Path) -> Path:
    """Refuse a file that is not there."""
    if not path.is_file():
        raise StoreError("an unfinished run", where=path, expected="a file", fix=FINISH)
    return path


def _check_equal(method: Path, seeds: dict[str, Returns]) -> None:
    """Refuse seeds of which some explored other numbers of episodes."""
    first, *others = seeds
    for seed in others:
        if seeds[seed].keys() != seeds[first].keys():
            raise StoreError(
                f"seeds {first} and {seed} explored other numbers of episodes",
                where=method,
                expected=list(seeds[first]),
                found=list(seeds[seed]),
                fix=FINISH,
            )


def gather(results: Path) -> dict[str, Rows]:
    """Read every finished run of GMPS and MAML-PG.

    Args:
        results: Folder of a preset's results.

    Returns:
        The rows of both tables.

    Raises:
        StoreError: There is none, or a run is incomplete or another protocol than its neighbours.
    """
    tables: dict[str, Rows] = {ADAPTED: [], STEPS: []}
    for method in sorted(results.glob("*/*/")):
        runs = sorted(method.glob("seed*/round0/evaluate/returns.zarr"))
        where = [method.parent.name, method.name]
        seeds = {path.parents[2].name.removeprefix("seed"): path for path in runs}
        guided = "gmps" in method.name
        if not runs or not (guided or method.name.startswith("maml-pg")):
            continue
        returns = {s: read_returns(p) for s, p in seeds.items()}
        _check_equal(method, returns)
        tables[ADAPTED] += adapted_rows(where, returns)
        shown = method.parent / "demonstrations" / "manifest.json"
        expert = 0.0
        if guided:
            manifest: Any = read_json(_there(shown))
            expert = float(manifest["expert_environment_steps"] + manifest["transitions"])
        for seed, path in seeds.items():
            metrics = path.parents[2] / "meta_train" / "metrics.csv"
            tables[STEPS] += step_rows(where, seed, _there(metrics), expert)
    if not tables[ADAPTED]:
        raise StoreError(
            "no finished run of GMPS or MAML-PG",
            where=results,
            fix=FINISH,
        )
    return tables


def read_table(path: Path) -> list[dict[str, str]]:
    """Read one of the tables.

    Args:
        path: Where.

    Returns:
        Its rows.

    Raises:
        StoreError: It is not there, or has other columns.
    """
    if not path.is_file():
        raise StoreError("no such table", where=path, fix="pass --results to gather it")
    with path.open() as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    if reader.fieldnames != HEADS[path.name]:
        found = reader.fieldnames
        raise StoreError("other columns", where=path, expected=HEADS[path.name], found=found)
    return rows


def _draw_episodes(rows: Sequence[dict[str, str]], folder: Path) -> None:
    """Return after adaptation against the number of exploration episodes."""
    environments = list(dict.fromkeys(row["environment"] for row in rows))
    figure, panels = style.grid(len(environments), 2, 3.2)
    for axes, environment in zip(panels, environments, strict=False):
        own = [row for row in rows if row["environment"] == environment and row["seed"] == "all"]
        for place, method in enumerate(dict.fromkeys(row["method"] for row in own)):
            mine = [row for row in own if row["method"] == method]
            at = np.arange(len(mine))
            mean, low, high = (
                np.array([float(r[c]) for r in mine]) for c in ("mean", "low", "high")
            )
            look: dict[str, Any] = {"color": style.colour(place), "marker": style.marker(place)}
            axes.errorbar(at, mean, (mean - low, high - mean), label=method, capsize=3, **look)
            axes.set_xticks(at, [row["explored"] for row in mine])
        axes.set_title(environment)
        axes.set_xlabel("exploration episodes (0: un-adapted)")
        axes.set_ylabel("return on held-out tasks")
    style.legend_below(figure, panels)
    figure.savefig(folder / "gmps-episodes.png", dpi=style.PIXELS, metadata={"Software": None})


def _draw_steps(rows: Sequence[dict[str, str]], folder: Path) -> None:
    """Return of the adapted policy against true-reward steps of its meta-training."""
    environments = list(dict.fromkeys(row["environment"] for row in rows))
    figure, panels = style.grid(len(environments), 2, 3.2)
    for axes, environment in zip(panels, environments, strict=False):
        own = [row for row in rows if row["environment"] == environment]
        for place, method in enumerate(dict.fromkeys(row["method"] for row in own)):
            for number, seed in enumerate(dict.fromkeys(r["seed"] for r in own)):
                mine = [r for r in own if r["method"] == method and r["seed"] == seed]
                steps, reached = (
                    [float(r[c]) for r in mine] for c in ("environment_steps", "test_return")
                )
                label = None if number else method
                axes.plot(steps, reached, color=style.colour(place), label=label, linewidth=1.4)
                if any(float(r["expert_steps"]) for r in mine):
                    total = [s + float(r["expert_steps"]) for s, r in zip(steps, mine, strict=True)]
                    label = None if number else f"{method}, with its expert's steps"
                    look: dict[str, Any] = {"color": style.colour(place), "linestyle": ":"}
                    axes.plot(total, reached, label=label, linewidth=1.4, **look)
        axes.set_title(environment)
        axes.set_xscale("log")
        axes.set_xlabel("environment steps with true reward")
        axes.set_ylabel("return after adaptation")
    style.legend_below(figure, panels)
    figure.savefig(folder / "gmps-steps.png", dpi=style.PIXELS, metadata={"Software": None})


def run(args: argparse.Namespace) -> None:
    """Gather where there are results, and draw.

    Args:
        args: Parsed arguments.
    """
    if args.results is not None:
        for name, rows in gather(args.results).items():
            write_text(args.out / name, csv_text([HEADS[name], *rows]))
    with style.styled():
        _draw_episodes(read_table(args.out / ADAPTED), args.out)
        _draw_steps(read_table(args.out / STEPS), args.out)


if __name__ == "__main__":
    stage_main(run, make_parser())
