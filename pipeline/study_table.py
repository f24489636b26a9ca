"""What the study's page reads: study.csv and study-arms.csv, and nothing else."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pipeline.intervals import Interval
from smac_core.errors import StoreError

CHANGE, SHARE, ALL = "change", "share", "all"
_KEYS = ("environment", "arm", "seed", "round", "split", "context")
_NEEDED = {*_KEYS, "self_supervised_steps", "return", "low", "high", "num_tasks"}
_ARM_COLUMNS = (
    *("environment", "of_environment", "arm", "of", "label", "question", "offline_of"),
    *("rounds", "settings", "versions"),
)


@dataclass(frozen=True)
class StudyArm:
    """One arm in one environment.

    Args:
        env: The environment, which may be a variant.
        base: What it is a variant of; itself, if of none.
        name: Name of the arm, or of the method.
        of: What it is based on; empty: it is a method.
        label: For people.
        question: What it asks.
        rounds: The last round.
        settings: What differs from `of`, as text.
        versions: Of the libraries that it ran with.
    """

    env: str
    base: str
    name: str
    of: str
    label: str
    question: str
    rounds: int
    settings: str
    versions: str

    @property
    def title(self) -> str:
        """The label, with what the environment's variant adds to the name of its base."""
        added = self.env.removeprefix(f"{self.base}-")
        return self.label if self.env == self.base else f"{self.label}, {added}"


@dataclass
class Study:
    """All rows.

    Args:
        arms: In the order of the table.
        rows: Cells by key: environment, arm, seed, round, split, context.
        seeds: Of the rows, rising.
    """

    arms: list[StudyArm]
    rows: dict[tuple[str, ...], dict[str, str]] = field(default_factory=dict)
    seeds: list[int] = field(default_factory=list)

    @property
    def bases(self) -> list[str]:
        """Environments that are no variants, in their order."""
        return list(dict.fromkeys(arm.base for arm in self.arms))

    def of(self, base: str) -> list[StudyArm]:
        """List the arms of an environment and its variants."""
        return [arm for arm in self.arms if arm.base == base]

    def find(self, env: str, name: str) -> StudyArm | None:
        """Find an arm; None: it did not run there."""
        return next((a for a in self.arms if (a.env, a.name) == (env, name)), None)

    def value(
        self,
        arm: StudyArm,
        seed: int | str,
        number: int | str,
        where: tuple[str, str],
        column: str = "return",
    ) -> float:
        """Read one cell.

        Args:
            arm: The arm.
            seed: A seed, or `all`.
            number: A round, `change` or `share`.
            where: Split and context.
            column: The column.

        Returns:
            The number; nan: not measured.
        """
        row = self.rows.get((arm.env, arm.name, str(seed), str(number), *where), {})
        text = row.get(column, "")
        return float(text) if text else math.nan

    def by_seed(
        self, arm: StudyArm, number: int, where: tuple[str, str], column: str = "return"
    ) -> np.ndarray:
        """Read a cell of every seed, ``[S]``; nan: not measured."""
        return np.array([self.value(arm, seed, number, where, column) for seed in self.seeds])

    def mean(
        self, arm: StudyArm, number: int, where: tuple[str, str], column: str = "return"
    ) -> float:
        """Average a cell over the seeds that have it; nan: none has."""
        found = self.by_seed(arm, number, where, column)
        known = found[np.isfinite(found)]
        return float(known.mean()) if len(known) else math.nan

    def interval(self, arm: StudyArm, number: int | str, where: tuple[str, str]) -> Interval | None:
        """Read the mean over all seeds with its interval; None: some seed lacks it."""
        value, low, high = (
            self.value(arm, ALL, number, where, column) for column in ("return", "low", "high")
        )
        if math.isnan(value):
            return None
        tasks = self.value(arm, ALL, number, where, "num_tasks")
        return Interval(value, low, high, len(self.seeds), int(tasks))

    def numbers(self, arm: StudyArm, where: tuple[str, str]) -> list[int]:
        """List the rounds that every seed was measured after."""
        found = [key[3] for key in self.rows if key[:3] == (arm.env, arm.name, ALL)]
        rounds = sorted({int(text) for text in found if text.isdigit()})
        return [n for n in rounds if (arm.env, arm.name, ALL, str(n), *where) in self.rows]

    def steps(self, arm: StudyArm, number: int, where: tuple[str, str]) -> float:
        """Environment steps without reward before a round's checkpoint."""
        return self.value(arm, ALL, number, where, "self_supervised_steps")


def read_study(path: Path) -> Study:
    """Read a study.

    Args:
        path: study.csv; its arms stand beside it in study-arms.csv.

    Returns:
        The study.

    Raises:
        StoreError: A file is missing, or is no such table.
    """
    told = _read(path.with_name(f"{path.stem}-arms.csv"), _ARM_COLUMNS)
    arms = [
        StudyArm(
            row["environment"],
            row["of_environment"],
            row["arm"],
            row["of"],
            row["label"],
            row["question"],
            int(row["rounds"]),
            row["settings"],
            row["versions"],
        )
        for row in told
    ]
    study = Study(arms)
    for row in _read(path, _NEEDED):
        study.rows[tuple(row[key] for key in _KEYS)] = row
    study.seeds = sorted({int(key[2]) for key in study.rows if key[2].isdigit()})
    return study


def _read(path: Path, needed: Sequence[str] | set[str]) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            reader = csv.DictReader(stream, restval="")
            rows = list(reader)
    except OSError as fault:
        fix = "make it with `snakemake study`"
        raise StoreError("the table is missing", where=path, found=fault, fix=fix) from None
    if lacking := sorted(set(needed) - set(reader.fieldnames or ())):
        raise StoreError("not a table of a study", where=path, expected=", ".join(lacking))
    return rows
