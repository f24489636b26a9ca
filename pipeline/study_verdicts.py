"""The bars that the study's default arm must clear, computed: holds, does not hold, or not told."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.intervals import Interval
from pipeline.report_text import number, percent, written
from pipeline.study_table import CHANGE, SHARE, Study, StudyArm

HOLDS, FAILS, UNKNOWN = "holds", "does not hold", "cannot be told"
ORACLE = "oracle"
SEEDS = 4  # fewer tell nothing
HALF = 0.5
TEST_OWN, TRAIN_OWN = ("test", "own"), ("train", "own")
MATCHED, OFFLINE = ("train", "own-matched"), ("train", "offline")
GAP = ("train", "offline-minus-own")


@dataclass(frozen=True)
class Verdict:
    """One bar.

    Args:
        bar: What is asked.
        found: The numbers, in words.
        verdict: One of the three.
    """

    bar: str
    found: str
    verdict: str


def verdicts(study: Study, arm: StudyArm) -> list[Verdict]:
    """Judge an arm.

    Args:
        study: All rows.
        arm: The arm.

    Returns:
        A verdict a bar; none holds with fewer than four seeds.
    """
    found = [_gain(study, arm), _share(study, arm), _gap(study, arm), _collapse(study, arm)]
    if len(study.seeds) >= SEEDS:
        return found
    few = f"; {len(study.seeds)} of {SEEDS} seeds"
    return [Verdict(it.bar, it.found + few, UNKNOWN) for it in found]


def _against(value: Interval | None, bar: float) -> str:
    if value is None or not value.known:
        return UNKNOWN
    return HOLDS if value.low > bar else FAILS if value.high < bar else UNKNOWN


def _gain(study: Study, arm: StudyArm) -> Verdict:
    value = study.interval(arm, CHANGE, TEST_OWN)
    bar = "after self-supervision minus before is above zero"
    return Verdict(bar, written(value, sign=True), _against(value, 0.0))


def _share(study: Study, arm: StudyArm) -> Verdict:
    bar = "at least half of the oracle's gain"
    oracle = study.find(arm.env, ORACLE)
    gained = None if oracle is None else study.interval(oracle, CHANGE, TEST_OWN)
    share = study.interval(arm, SHARE, TEST_OWN)
    if gained is None or share is None:
        return Verdict(bar, "no oracle", UNKNOWN)
    told = f"{_percents(share)} of the oracle's {written(gained, sign=True)}"
    known = gained.known and gained.low > 0.0
    return Verdict(bar, told, _against(share, HALF) if known else UNKNOWN)


def _gap(study: Study, arm: StudyArm) -> Verdict:
    bar = "offline-context minus own-context return shrinks by at least half"
    before = study.interval(arm, 0, GAP)
    after = study.interval(arm, arm.rounds, GAP)
    share = study.interval(arm, SHARE, GAP)
    if before is None or after is None or share is None:
        return Verdict(bar, "not measured", UNKNOWN)
    told = f"{written(before, sign=True)} → {written(after, sign=True)}"
    if not before.known or before.low <= 0.0:
        return Verdict(bar, f"{told}: no gap to close", UNKNOWN)
    told += f", {_percents(share)} closed"
    # Own contexts should come up to offline ones: not the other way round, nor far beyond.
    offline = study.interval(arm, CHANGE, OFFLINE)
    if offline is not None and offline.known and offline.high < 0.0:
        fell = written(offline, sign=True)
        return Verdict(bar, f"{told}; the return after offline contexts fell: {fell}", FAILS)
    if share.mean > 1.0 + HALF:
        return Verdict(bar, f"{told}; a gap as large the other way round", FAILS)
    return Verdict(bar, told, _against(share, HALF))


def _percents(share: Interval) -> str:
    ends = f" [{percent(share.low)}, {percent(share.high)}]" if share.known else ""
    return f"{percent(share.mean)}{ends}"


def collapsed(study: Study, arm: StudyArm) -> list[int]:
    """Find the seeds that self-supervision made useless.

    Args:
        study: All rows.
        arm: The arm.

    Returns:
        Seeds whose last return on held-out tasks is below that after the offline phase by more than
        the standard deviation of the latter over seeds, or below doing nothing. A seed that was
        not measured is not among them.
    """
    before, after = (study.by_seed(arm, n, TEST_OWN) for n in (0, arm.rounds))
    known = before[np.isfinite(before)]
    spread = float(known.std(ddof=1)) if len(known) > 1 else 0.0
    floor = study.mean(arm, 0, ("test", "nothing"))
    fallen = (after < before - spread) | (after < floor)
    return [seed for seed, down in zip(study.seeds, fallen, strict=True) if down]


def _collapse(study: Study, arm: StudyArm) -> Verdict:
    bar = "no seed collapses"
    after = study.by_seed(arm, arm.rounds, TEST_OWN)
    if arm.rounds == 0 or not np.isfinite(after).all():
        return Verdict(bar, "not every seed was measured", UNKNOWN)
    down = collapsed(study, arm)
    told = f"by seed {', '.join(number(value) for value in after)}"
    told += f"; collapsed: {', '.join(map(str, down))}" if down else ""
    return Verdict(bar, told, FAILS if down else HOLDS)
