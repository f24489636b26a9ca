"""How a row is measured: warm up, then A B A B in one process, median and spread of the ratios."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Args:
        name: What is measured, such as ``rollout-cheetah-vel``.
        size: How much of it.
        threads: Threads that our side may use; the baseline's own is in ``against``.
        device: cpu, or the name of a GPU.
        against: What the baseline is.
        ours: Median rate or time of our side, in ``unit``.
        baseline: The same of the baseline.
        unit: Of ``ours`` and ``baseline``; ``…/s`` is a rate, ``s…`` a time.
        ratio: Median over the rounds of baseline time / our time: above one, ours is faster.
        spread: Interquartile range of that ratio over the rounds, as a share of ``ratio``.
        series: Rows of one name and series differ in ``count`` alone, apart from ``against``.
        count: The size as a number, for figures; 0: there is none.
    """

    name: str
    size: str
    threads: int
    device: str
    against: str
    ours: float
    baseline: float
    unit: str
    ratio: float
    spread: float
    series: str = ""
    count: int = 0


@dataclass(frozen=True)
class Effort:
    """How long to measure.

    Args:
        rounds: Samples of each side.
        seconds: Least length of a sample; short calls are repeated to fill it.
        quick: Whether sizes shrink too: a check that everything runs, not a measurement.
    """

    rounds: int
    seconds: float
    quick: bool = False


FULL = Effort(rounds=11, seconds=0.2)
QUICK = Effort(rounds=3, seconds=0.01, quick=True)


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class Work:
    """One way to do something.

    Args:
        call: Does it once, and returns how many units of work that was.
        finish: Waits until all calls are over, for work that a device does later.
    """

    call: Callable[[], float]
    finish: Callable[[], object] = _nothing

    def seconds(self, repeats: int) -> tuple[float, float]:
        """Time some calls.

        Args:
            repeats: How many.

        Returns:
            Wall time of a call, and of a unit of work (s).
        """
        done = 0.0
        started = time.perf_counter()
        for _ in range(repeats):
            done += self.call()
        self.finish()
        elapsed = time.perf_counter() - started
        return elapsed / repeats, elapsed / done


def interleave(works: Sequence[Work], effort: Effort) -> np.ndarray:
    """Time several ways to do the same, in turns, so that all see the same machine.

    Args:
        works: The ways; each is called twice before anything counts.
        effort: How long.

    Returns:
        ``[rounds, len(works)]`` seconds a unit of work.
    """
    repeats = []
    for work in works:
        work.seconds(1)  # caches, allocators, lazy imports
        call, _ = work.seconds(1)
        repeats.append(max(1, round(effort.seconds / max(call, 1e-9))))
    return np.array(
        [
            [work.seconds(count)[1] for work, count in zip(works, repeats, strict=True)]
            for _ in range(effort.rounds)
        ]
    )


@dataclass(frozen=True)
class Label:
    """What the rows of one comparison share; see ``Row``."""

    name: str
    size: str
    unit: str
    threads: int = 1
    device: str = "cpu"
    series: str = ""
    count: int = 0


def make_row(label: Label, against: str, ours: np.ndarray, baseline: np.ndarray) -> Row:
    """Summarise paired samples.

    Args:
        label: What was measured.
        against: What the baseline is.
        ours: ``[rounds]`` seconds a unit of work.
        baseline: ``[rounds]`` the same of the baseline, taken in turns with ours.

    Returns:
        The row.
    """
    ratios = baseline / ours
    low, ratio, high = np.percentile(ratios, [25, 50, 75])
    rate = label.unit.endswith("/s")
    values = [float(np.median(side)) for side in (ours, baseline)]
    mine, theirs = (1.0 / value if rate else value for value in values)
    return Row(
        label.name,
        label.size,
        label.threads,
        label.device,
        against,
        mine,
        theirs,
        label.unit,
        float(ratio),
        float((high - low) / ratio),
        label.series,
        label.count,
    )


def compare(
    label: Label, ours: Work, baselines: Mapping[str, Work], effort: Effort
) -> Iterator[Row]:
    """Measure our way and some baselines in turns.

    Args:
        label: What is measured.
        ours: Our way.
        baselines: The others, by what they are.
        effort: How long.

    Yields:
        One row a baseline.
    """
    seconds = interleave([ours, *baselines.values()], effort)
    for column, against in enumerate(baselines, start=1):
        yield make_row(label, against, seconds[:, 0], seconds[:, column])
