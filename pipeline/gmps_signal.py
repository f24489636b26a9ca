"""How much of an inner step of GMPS is its task's: the step from two sets of episodes, compared.

`python -m pipeline.gmps_signal --results results/gmps-ant --out gmps-ant-signal.csv` plays, in each
held-out task, two sets of the un-adapted policy's episodes, adapts to each on its own, and compares
the changes of the parameters by their cosine: between the sets of one task, and between tasks.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.cli import Parser, stage_main
from pipeline.files import read_json, write_text
from pipeline.models import read_acting
from pipeline.report_comparison_tables import csv_text
from pipeline.task_list import read_tasks
from smac_core.envs.episodes import BatchDriver
from smac_core.envs.lookup import load_environment
from smac_core.errors import StoreError
from smac_core.gmps.learner import stacked
from smac_core.gmps.policy import acting_policies
from smac_core.gmps.rollouts import play, policy_rows
from smac_core.gmps_agent import PolicyGradientAgent
from smac_core.planning import Key

LOADER = "smac_core.gmps_agent:load"
SIGNAL = 0x73  # keeps these episodes apart from the streams of smac_core.planning
HEAD = ["environment", "method", "seed", "episodes", "same", "other", "own", "tasks"]
EPISODES = (2, 20)


def make_parser() -> argparse.ArgumentParser:
    """Describe the arguments."""
    parser = Parser("python -m pipeline.gmps_signal", description="Compare inner steps of GMPS.")
    parser.add_argument("--results", type=Path, required=True, help="folder of finished runs")
    parser.add_argument("--out", type=Path, required=True, help="the table, a CSV file")
    parser.add_argument("--methods", nargs="+", default=["gmps"], help="folders to look into")
    parser.add_argument(
        "--episodes", type=int, nargs="+", default=EPISODES, help="of an inner step"
    )
    return parser


def changes(
    agent: PolicyGradientAgent, driver: BatchDriver, tasks: np.ndarray, episodes: int, key: Key
) -> np.ndarray:
    """Adapt once in every task, and tell how the parameters moved.

    Args:
        agent: With its meta-learned policy.
        driver: The simulators.
        tasks: ``[T, task_dim]`` parameters.
        episodes: Of one inner step.
        key: Names the random streams.

    Returns:
        ``[T, P]`` float64, adapted less un-adapted parameters.
    """
    before = stacked(agent.meta)
    keys: list[Key] = [
        (*key, task, number) for task in range(len(tasks)) for number in range(episodes)
    ]
    played = play(
        driver, acting_policies(before), np.repeat(tasks, episodes, axis=0), keys, sample=True
    )
    rows = policy_rows(played, len(tasks), agent.objective, before)
    adapted = agent.objective.adapt_all(agent.meta, rows)
    moved = [(adapted[name] - before[name]).reshape(len(tasks), -1) for name in before]
    return np.concatenate([part.cpu().numpy().astype(np.float64) for part in moved], axis=1)


def compare(first: np.ndarray, second: np.ndarray) -> tuple[float, float, float]:
    """Compare the changes from two independent sets of episodes.

    Args:
        first: ``[T, P]`` of one set, a row a task.
        second: ``[T, P]`` of the other.

    Returns:
        Mean cosine within a task, between tasks, and within a task of what remains when the mean
        over tasks is taken off each set: zero where a step has nothing of its own task.
    """
    raw = _cosines(first, second)
    own = _cosines(first - first.mean(axis=0), second - second.mean(axis=0))
    apart = ~np.eye(len(raw), dtype=bool)
    return float(np.diag(raw).mean()), float(raw[apart].mean()), float(np.diag(own).mean())


def _cosines(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(first, axis=1)[:, None] * np.linalg.norm(second, axis=1)
    cosines: np.ndarray = first @ second.T / np.maximum(lengths, np.finfo(np.float64).tiny)
    return cosines


def rows_of(seed_folder: Path, numbers: list[int]) -> list[list[object]]:
    """Measure one seed.

    Args:
        seed_folder: ``<results>/<env>/<method>/seed<n>``.
        numbers: Of episodes.

    Returns:
        A row each.
    """
    folder = seed_folder / "meta_train"
    manifest: Any = read_json(folder / "manifest.json")
    told = manifest["config"]["env"]
    env = load_environment(told["definition"], told["params"])
    agent = read_acting(folder / "checkpoint.safetensors", env, LOADER).agent
    assert isinstance(agent, PolicyGradientAgent)
    found = read_tasks(seed_folder.parents[1] / "tasks.json", env)
    tasks = found.parameters[list(found.test)]
    seed = int(seed_folder.name.removeprefix("seed"))
    where = [seed_folder.parents[1].name, seed_folder.parent.name, seed]
    driver, rows = BatchDriver(env), []
    for number in numbers:
        sets = [changes(agent, driver, tasks, number, (seed, SIGNAL, number, n)) for n in (0, 1)]
        rows.append([*where, number, *compare(*sets), len(tasks)])
    return rows


def with_means(rows: list[list[object]]) -> list[list[object]]:
    """Add the mean over seeds of each environment, method and number of episodes."""
    groups: dict[tuple[object, ...], list[list[object]]] = {}
    for row in rows:
        groups.setdefault((row[0], row[1], row[3]), []).append(row)
    means: list[list[object]] = []
    for (env, method, number), own in groups.items():
        table = np.array([row[4:7] for row in own], dtype=np.float64)
        columns = table.mean(axis=0).tolist()
        means.append([env, method, "all", number, *columns, own[0][-1]])
    return [*rows, *means]


def run(args: argparse.Namespace) -> None:
    """Write the table.

    Args:
        args: Parsed arguments.

    Raises:
        StoreError: There is no finished run.
    """
    folders = [
        folder
        for method in args.methods
        for folder in sorted(args.results.glob(f"*/{method}/seed*"))
        if (folder / "meta_train" / "manifest.json").is_file()
    ]
    if not folders:
        raise StoreError(
            "no finished run",
            where=args.results,
            expected=f"folders */{' or '.join(args.methods)}/seed*/meta_train",
            fix="finish it with snakemake",
        )
    rows = [row for folder in folders for row in rows_of(folder, list(args.episodes))]
    write_text(args.out, csv_text([HEAD, *with_means(rows)]))


if __name__ == "__main__":
    stage_main(run, make_parser())
