"""What the report says in numbers: every quantity per method and round, with its interval."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from pipeline.intervals import Interval, bootstrap_interval
from pipeline.report_data import EnvResults, MethodResults, Results
from pipeline.report_quantities import FLOORS, MEANINGS, mean, per_task, physical
from pipeline.sections import ReportConfig
from smac_core.errors import StoreError

_COLUMNS = (
    *("environment", "method", "round", "self_supervised_steps", "quantity"),
    *("mean", "low", "high", "num_seeds", "num_tasks"),
)


@dataclass
class MethodNumbers:
    """The numbers of one method in one environment.

    Args:
        env: Name of the environment.
        name: Name of the method.
        label: For people.
        seeds: Seeds of the run.
        online: Whether it has a self-supervised phase.
        rounds: Rounds with an evaluation of at least one seed, rising.
        steps: Mean environment steps without reward before each round.
        tables: ``[S, T]`` by round and quantity; nan: that seed is missing.
        at: Interval by round and quantity.
        change: Interval of the last round minus the first, paired, by quantity.
        above: Interval of the return minus that of the better floor, paired, by round.
        floor: Name of the better floor; empty: none was measured.
    """

    env: str
    name: str
    label: str
    seeds: tuple[int, ...]
    online: bool
    rounds: list[int] = field(default_factory=list)
    steps: dict[int, float] = field(default_factory=dict)
    tables: dict[tuple[int, str], np.ndarray] = field(default_factory=dict)
    at: dict[tuple[int, str], Interval] = field(default_factory=dict)
    change: dict[str, Interval] = field(default_factory=dict)
    above: dict[int, Interval] = field(default_factory=dict)
    floor: str = ""

    def before(self, quantity: str) -> Interval | None:
        """Interval after the offline phase; None: not measured."""
        return self.at.get((0, quantity))

    def after(self, quantity: str) -> Interval | None:
        """Interval after the last round; None: there was none, or it was not measured."""
        return self.at.get((self.rounds[-1], quantity)) if self.adapted else None

    @property
    def adapted(self) -> bool:
        """Whether a later round than the offline checkpoint was evaluated."""
        return bool(self.rounds) and self.rounds[-1] > 0

    def seed_means(self, number: int, quantity: str) -> np.ndarray:
        """Average over tasks, seed by seed.

        Args:
            number: The round.
            quantity: A quantity of the report.

        Returns:
            ``[S]``; nan: that seed is missing.
        """
        table = self.tables.get((number, quantity))
        return np.full(len(self.seeds), np.nan) if table is None else mean(table, axis=1)

    def seed_changes(self, quantity: str) -> np.ndarray:
        """Subtract the offline phase from the last round, seed by seed, where both are known."""
        if not self.adapted:
            return np.zeros(0)
        before, after = (self.seed_means(n, quantity) for n in (0, self.rounds[-1]))
        known: np.ndarray = (after - before)[np.isfinite(after - before)]
        return known

    @property
    def gap_closed(self) -> float | None:
        """Share of the KL gap between own and offline contexts that the rounds closed.

        None where there was no gap to close: its interval includes zero.
        """
        before, after = self.before("kl_gap"), self.after("kl_gap")
        if before is None or after is None or before.includes_zero:
            return None
        return 1.0 - abs(after.mean) / abs(before.mean)


@dataclass
class Numbers:
    """All numbers of a report.

    Args:
        config: How the intervals were made.
        methods: By environment, in the order of the run.
        floors: Interval by environment and floor.
    """

    config: ReportConfig
    methods: dict[str, list[MethodNumbers]] = field(default_factory=dict)
    floors: dict[str, dict[str, Interval]] = field(default_factory=dict)

    def __iter__(self) -> Iterator[MethodNumbers]:
        for methods in self.methods.values():
            yield from methods


def _table(
    env: EnvResults, method: MethodResults, seeds: tuple[int, ...], number: int, quantity: str
) -> np.ndarray | None:
    rows: dict[int, np.ndarray] = {}
    for seed in seeds:
        evaluation = method.evaluations.get((seed, number))
        row = None if evaluation is None else per_task(evaluation, quantity)
        if row is not None:
            rows[seed] = row
    widths = {len(row) for row in rows.values()}
    if len(widths) > 1:
        raise StoreError(
            "the seeds were evaluated on different tasks",
            where=f"{env.name}, {method.name}, round {number}",
            found=f"{' and '.join(map(str, sorted(widths)))} tasks",
            fix="evaluate them again with one configuration",
        )
    if not widths:
        return None
    missing = np.full(widths.pop(), np.nan)
    table = np.stack([rows.get(seed, missing) for seed in seeds])
    return table if np.isfinite(table).any() else None


def _interval(table: np.ndarray, config: ReportConfig) -> Interval:
    return bootstrap_interval(table, samples=config.bootstrap_samples, confidence=config.confidence)


def _method_numbers(
    env: EnvResults, method: MethodResults, seeds: tuple[int, ...], config: ReportConfig
) -> MethodNumbers:
    online = method.rounds[-1] > 0
    out = MethodNumbers(env.name, method.name, method.label, seeds, online)
    quantities = [*MEANINGS, *physical(env)]
    out.rounds = sorted({number for _, number in method.evaluations})
    for number in out.rounds:
        steps = [e.steps for (_, n), e in method.evaluations.items() if n == number]
        out.steps[number] = float(np.mean(steps))
        for quantity in quantities:
            table = _table(env, method, seeds, number, quantity)
            if table is not None:
                out.tables[number, quantity] = table
                out.at[number, quantity] = _interval(table, config)
    for quantity in quantities if out.adapted else ():
        pair = [out.tables.get((number, quantity)) for number in (0, out.rounds[-1])]
        if pair[0] is not None and pair[1] is not None:
            out.change[quantity] = _interval(pair[1] - pair[0], config)
    return out


def _compare_with_floors(methods: list[MethodNumbers], config: ReportConfig) -> dict[str, Interval]:
    """Find the floors of an environment, and how far every method is above the better one."""
    floors: dict[str, Interval] = {}
    tables: dict[str, np.ndarray] = {}
    for method in methods:
        for floor in FLOORS:
            # A floor has no method; each that measured it measured the same.
            if floor not in floors and (0, floor) in method.at:
                floors[floor], tables[floor] = method.at[0, floor], method.tables[0, floor]
    if not floors:
        return {}
    better = max(floors, key=lambda floor: floors[floor].mean)
    for method in methods:
        method.floor = better
        for number in method.rounds:
            returns = method.tables.get((number, "test_return"))
            if returns is not None and returns.shape == tables[better].shape:
                method.above[number] = _interval(returns - tables[better], config)
    return floors


def summarise(results: Results, config: ReportConfig) -> Numbers:
    """Compute every number of the report.

    Args:
        results: What was read.
        config: Number of resamples, and the intervals' confidence.

    Returns:
        The numbers.

    Raises:
        StoreError: Seeds of one method were evaluated on different tasks.
    """
    numbers = Numbers(config)
    for env in results.envs:
        methods = [_method_numbers(env, m, results.run.seeds, config) for m in env.methods]
        numbers.methods[env.name] = methods
        numbers.floors[env.name] = _compare_with_floors(methods, config)
    return numbers


def summary_csv(numbers: Numbers) -> str:
    """Write every number as a table, a row a quantity and round.

    Args:
        numbers: The numbers.

    Returns:
        CSV text; `change` in place of the round: last round minus the offline phase, paired.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for method in numbers:
        rows: list[tuple[int | str, float | str, str, Interval]] = [
            (number, method.steps[number], quantity, interval)
            for (number, quantity), interval in method.at.items()
        ]
        rows += [("change", "", quantity, value) for quantity, value in method.change.items()]
        for number, steps, quantity, value in rows:
            ends = [repr(end) if np.isfinite(end) else "" for end in (value.low, value.high)]
            which = (method.env, method.name, number, steps, quantity)
            writer.writerow([*which, repr(value.mean), *ends, value.num_seeds, value.num_tasks])
    return stream.getvalue()
