"""What finished runs of GMPS and of its rivals say: the rows of the page's tables."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.files import read_json
from pipeline.intervals import bootstrap_interval
from pipeline.store import Store, read_store
from smac_core.errors import StoreError

ADAPTED, STEPS, OUTCOMES = "gmps.csv", "gmps-steps.csv", "gmps-outcomes.csv"
HEADS = {
    ADAPTED: [
        *("environment", "method", "seed", "explored", "mean", "low", "high"),
        *("gain", "gain_low", "gain_high", "tasks"),
    ],
    STEPS: [
        *("environment", "method", "seed", "environment_steps", "expert_steps"),
        *("test_return", "prior_return"),
    ],
    OUTCOMES: [
        *("environment", "method", "explored", "measure", "unit", "mean", "low", "high"),
        *("seeds", "tasks"),
    ],
}
FINISH = "finish it with `snakemake --configfile config/gmps.yaml`, or its own preset"
METHODS = ("gmps", "maml-pg", "oracle-scratch")  # what names of folders begin with
COLLECTOR, EXPERT = "pearl", "expert"  # methods that have no folder of their own
RETURN = ("return", "reward")  # a measure that every environment has, and its unit

Rows = list[list[object]]
Measured = dict[int, dict[str, np.ndarray]]
"""By exploration episodes, 0 for the un-adapted policy, and by measure: ``[T]``, means of tasks."""


@dataclass
class Finished:
    """What one method did in one environment.

    Args:
        measured: Its last meta-test, by seed.
        units: Of what was measured, by name.
        curve: Points of the learning curve by seed: steps, return adapted, return un-adapted.
        expert_steps: With true reward, behind its experts and their demonstrations.
    """

    measured: dict[str, Measured] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)
    curve: dict[str, list[tuple[float, float, float]]] = field(default_factory=dict)
    expert_steps: float = 0.0


Key = tuple[str, str]
"""Environment and method."""


def read_measured(store: Store) -> Measured:
    """Read the meta-test of one checkpoint.

    Args:
        store: An evaluation.

    Returns:
        What the last episode of every meta-episode was, averaged over repeats.
    """
    found: Measured = {}
    for path, returns in store.arrays.items():
        arm = re.fullmatch(r"arms/(test_(?:prior|online|explored_(\d+)))/episode_return", path)
        if arm is None:
            continue
        known = {"test_prior": 0, "test_online": returns.shape[-1] - 1}
        number = int(arm[2]) if arm[2] else known[arm[1]]
        measure = store.arrays[f"arms/{arm[1]}/measure"][:, :, -1].astype(np.float64).mean(axis=1)
        found[number] = {RETURN[0]: returns[..., -1].astype(np.float64).mean(axis=1)}
        for place, name in enumerate(store.attributes["measures"]):
            found[number][name] = measure[:, place]
    return dict(sorted(found.items()))


def units_of(store: Store) -> dict[str, str]:
    """Tell the units of what an evaluation measured, by name."""
    names, units = store.attributes["measures"], store.attributes["measure_units"]
    return dict([RETURN, *zip(names, units, strict=True)])


def gather(folders: Sequence[Path]) -> dict[str, Rows]:
    """Read every finished run below some folders.

    Args:
        folders: Of the results of presets; seeds of one method may lie in several.

    Returns:
        The rows of all tables.

    Raises:
        StoreError: There is none, or a run is incomplete, there twice, or of another protocol than
            its neighbours.
    """
    runs: dict[Key, Finished] = {}
    experts: dict[str, dict[str, Any]] = {}
    for folder in folders:
        for env in sorted(folder.glob("*/")):
            shown = _shown(env)
            if shown is not None:
                experts[env.name] = shown
            for method in sorted(env.glob("*/")):
                if method.name.startswith(METHODS):
                    _read_method(runs, method)
            _read_collector(runs, env)
    if not any(run.measured for run in runs.values()):
        found = ", ".join(map(str, folders))
        raise StoreError("no finished run of GMPS or MAML-PG", where=found, fix=FINISH)
    ordered = {key: runs[key] for key in sorted(runs)}
    tables: dict[str, Rows] = {ADAPTED: [], STEPS: [], OUTCOMES: []}
    for key, run in ordered.items():
        _check_equal(key, run)
        tables[ADAPTED] += adapted_rows(key, run)
        tables[STEPS] += [
            [*key, seed, steps, run.expert_steps, *returns]
            for seed, points in run.curve.items()
            for steps, *returns in points
        ]
        tables[OUTCOMES] += outcome_rows(key, run)
    for name, shown in experts.items():
        units = next((run.units for (env, _), run in ordered.items() if env == name), {})
        tables[OUTCOMES] += expert_rows(name, shown, units)
    return tables


def adapted_rows(key: Key, run: Finished) -> Rows:
    """Lay out what one method reaches in one environment.

    Args:
        key: Environment and method.
        run: Its seeds.

    Returns:
        A row a seed and number of exploration episodes, and one over the seeds, whose intervals
        resample seeds and tasks; the gain is paired with the un-adapted policy.
    """
    rows: Rows = []
    seeds = {seed: _returns(measured) for seed, measured in run.measured.items()}
    for name, members in ({seed: [seed] for seed in seeds} | {"all": list(seeds)}).items():
        for explored in next(iter(seeds.values()), {}):
            table = np.stack([seeds[seed][explored] for seed in members])
            before = np.stack([seeds[seed][0] for seed in members])
            mean, gain = (bootstrap_interval(t) for t in (table, table - before))
            ends = [it for one in (mean, gain) for it in (one.mean, one.low, one.high)]
            rows.append([*key, name, explored, *ends, table.shape[1]])
    return rows


def _returns(measured: Measured) -> dict[int, np.ndarray]:
    return {explored: found[RETURN[0]] for explored, found in measured.items()}


def outcome_rows(key: Key, run: Finished) -> Rows:
    """Lay out what the episodes of one method were, beside their returns.

    Args:
        key: Environment and method.
        run: Its seeds.

    Returns:
        A row a number of exploration episodes and measure, over all seeds and tasks.
    """
    rows: Rows = []
    seeds = list(run.measured.values())
    for explored in seeds[0] if seeds else ():
        for name, unit in run.units.items():
            table = np.stack([measured[explored][name] for measured in seeds])
            it = bootstrap_interval(table)
            rows.append([*key, explored, name, unit, it.mean, it.low, it.high, *table.shape])
    return rows


def expert_rows(env: str, shown: dict[str, Any], units: dict[str, str]) -> Rows:
    """Lay out what the expert's demonstrations of training tasks were.

    Args:
        env: The environment.
        shown: Manifest of the demonstrations.
        units: Of what is measured there.

    Returns:
        A row a measure; its interval is over tasks.
    """
    rows: Rows = []
    for name, unit in units.items():
        if name in shown["by_task"]:
            table = np.array([shown["by_task"][name]], dtype=np.float64)
            it = bootstrap_interval(table)
            ends = (it.mean, it.low, it.high)
            rows.append([env, EXPERT, "", name, unit, *ends, *table.shape])
    return rows


def _read_method(runs: dict[Key, Finished], folder: Path) -> None:
    """Read the seeds of a method, as far as one was evaluated at all."""
    key = (folder.parent.name, folder.name)
    for seed_folder in sorted(folder.glob("seed*/")):
        rounds = sorted(seed_folder.glob("round*/evaluate/returns.zarr"), key=_round_of)
        if not rounds:
            continue
        run, seed = _enter(runs, key, seed_folder), seed_folder.name.removeprefix("seed")
        stores = [read_store(path, "evaluation") for path in rounds]
        run.measured[seed], run.units = read_measured(stores[-1]), units_of(stores[-1])
        if key[1].startswith("oracle-scratch"):
            run.curve[seed] = list(_curve_of_rounds(stores))
            continue
        if key[1].startswith("gmps"):
            manifest = _there(folder.parent / "demonstrations" / "manifest.json")
            shown: Any = read_json(manifest)
            run.expert_steps = float(shown["expert_environment_steps"] + shown["transitions"])
        metrics = _there(seed_folder / "meta_train" / "metrics.csv")
        run.curve[seed] = list(_curve_of_metrics(metrics))


def _read_collector(runs: dict[Key, Finished], env: Path) -> None:
    """Read the learning curve of PEARL, where it collected the offline data and was measured."""
    path = env / "collect" / "manifest.json"
    if not path.is_file():
        return
    manifest: Any = read_json(path)
    section = manifest.get("config", {}).get("section", {})
    if section.get("policy") != COLLECTOR or not section.get("evaluate_every"):
        return
    run = _enter(runs, (env.name, COLLECTOR), path, str(section["seed"]))
    run.curve[str(section["seed"])] = list(_curve_of_metrics(_there(path.parent / "metrics.csv")))


def _enter(runs: dict[Key, Finished], key: Key, path: Path, seed: str = "") -> Finished:
    """Find where a method is noted, and refuse to note a seed twice."""
    run = runs.setdefault(key, Finished())
    if (seed or path.name.removeprefix("seed")) in run.curve:
        fix = "pass folders that have no environment, method and seed in common"
        raise StoreError(f"a second run of {key[1]} in {key[0]}", where=path, fix=fix)
    return run


def _curve_of_rounds(stores: Sequence[Store]) -> Iterator[tuple[float, float, float]]:
    for store in stores:
        steps = float(store.attributes["self_supervised_steps"])
        adapted, before = (
            float(store.arrays[f"arms/test_{arm}/episode_return"][..., -1].mean(dtype=np.float64))
            for arm in ("online", "prior")
        )
        yield steps, adapted, before


def _curve_of_metrics(path: Path) -> Iterator[tuple[float, float, float]]:
    with path.open() as file:
        for row in csv.DictReader(file):
            if row.get("test_return"):
                numbers = (row[c] for c in ("environment_steps", "test_return"))
                steps, adapted = (float(number) for number in numbers)
                yield steps, adapted, float(row["test_prior_return"] or "nan")


def _round_of(path: Path) -> int:
    return int(path.parents[1].name.removeprefix("round"))


def _shown(env: Path) -> dict[str, Any] | None:
    """Read what the demonstrations say of the expert; None: there are none, or older ones."""
    path = env / "demonstrations" / "manifest.json"
    manifest: Any = read_json(path) if path.is_file() else {}
    return manifest if "by_task" in manifest else None


def _there(path: Path) -> Path:
    """Refuse a file that is not there."""
    if not path.is_file():
        raise StoreError("an unfinished run", where=path, expected="a file", fix=FINISH)
    return path


def _check_equal(key: Key, run: Finished) -> None:
    """Refuse seeds of which some explored other numbers of episodes."""
    first, *others = run.measured or ("",)
    for seed in others:
        if run.measured[seed].keys() != run.measured[first].keys():
            raise StoreError(
                f"seeds {first} and {seed} explored other numbers of episodes",
                where=", ".join(key),
                expected=list(run.measured[first]),
                found=list(run.measured[seed]),
                fix=FINISH,
            )


def read_table(path: Path, head: Sequence[str]) -> list[dict[str, str]]:
    """Read a table of the page.

    Args:
        path: Where.
        head: Its columns.

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
    if reader.fieldnames != list(head):
        raise StoreError("other columns", where=path, expected=list(head), found=reader.fieldnames)
    return rows
