"""A study whose numbers are made up, in the files that the stage `study` writes."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.study_rows import ADAPTED, ERRORS, KEYS, LOGGED, SCORES

EXTRA = ("exploration_decoder_mse", "coverage", "novelty")
COLUMNS = (*KEYS, *SCORES, *ADAPTED, *ERRORS, *EXTRA, *LOGGED)
CONTEXTS = (
    ("test", "own"),
    ("test", "prior"),
    ("train", "own"),
    ("train", "own-matched"),
    ("train", "offline"),
)


@dataclass(frozen=True)
class Made:
    """An arm: returns before and after on every seed, its text, and how wide intervals are."""

    name: str
    before: float
    after: float
    env: str = "cheetah-vel"
    base: str = "cheetah-vel"
    label: str = ""
    question: str = ""
    of: str = ""
    rounds: int = 4
    gap: tuple[float, float] = (60.0, 10.0)
    oracles: float = 100.0
    width: float = 10.0
    floor: float = -300.0


def write_study(folder: Path, arms: Sequence[Made], seeds: Sequence[int] = (0, 1, 2, 3)) -> Path:
    """Writes both tables; gives the path of study.csv."""
    path = folder / "study.csv"
    _write(path, COLUMNS, (row for arm in arms for row in _rows(arm, seeds)))
    described = [
        {
            "environment": arm.env,
            "of_environment": arm.base,
            "arm": arm.name,
            "of": arm.of,
            "label": arm.label or arm.name,
            "question": arm.question,
            "offline_of": "smac",
            "rounds": arm.rounds,
            "settings": "{relabel: {latent: mean}}" if arm.of else "",
            "versions": "python 3.11.7, torch 2.13.0",
        }
        for arm in arms
    ]
    _write(path.with_name("study-arms.csv"), tuple(described[0]), described)
    return path


def _write(path: Path, columns: Sequence[str], rows: Any) -> None:
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _rows(arm: Made, seeds: Sequence[int]) -> Iterator[Mapping[str, object]]:
    rng = np.random.default_rng(len(arm.name))
    numbers = sorted({0, arm.rounds // 2, arm.rounds})
    for number in numbers:
        share = number / arm.rounds if arm.rounds else 0.0
        value = arm.before + share * (arm.after - arm.before)
        gap = arm.gap[0] + share * (arm.gap[1] - arm.gap[0])
        for split, context in CONTEXTS:
            mean = value + (gap if context == "offline" else 0.0)
            for seed in seeds:
                yield _row(arm, seed, number, (split, context), mean + seed - 1.5) | {
                    "posterior_kl": 4.0 if context == "offline" else 8.0 - 4.0 * share,
                    "decoder_mse": 1.0,
                    "start_value": -40.0 + rng.normal(),
                    "discounted_return": -60.0 + 20.0 * share,
                    **(_of_checkpoint(share) if (split, context) == ("train", "own") else {}),
                }
            yield _over(arm, number, (split, context), mean)
        yield _over(arm, number, ("train", "offline-minus-own"), gap)
        if number == 0:
            for name, down in (("nothing", 0.0), ("random", 40.0)):
                for seed in seeds:
                    yield _row(arm, seed, 0, ("test", name), arm.floor - down)
    if arm.rounds:
        gain = arm.after - arm.before
        yield _over(arm, "change", ("test", "own"), gain)
        yield _over(arm, "share", ("test", "own"), gain / arm.oracles, 1.0 / arm.oracles)
        offline = gain + arm.gap[1] - arm.gap[0]
        yield _over(arm, "change", ("train", "offline"), offline)
        closed = 1.0 - arm.gap[1] / arm.gap[0]
        yield _over(arm, "share", ("train", "offline-minus-own"), closed, 1.0 / arm.gap[0])


def _of_checkpoint(share: float) -> dict[str, float]:
    return {
        "offline_decoder_mse": 0.04,
        "exploration_decoder_mse": 0.4 + share,
        "adapted_decoder_mse": 0.09,
        "coverage": 0.5,
        "novelty": 0.3,
        "effective_sample_size": 0.8,
    }


def _row(
    arm: Made, seed: object, number: object, where: tuple[str, str], value: float
) -> dict[str, object]:
    return {
        "environment": arm.env,
        "arm": arm.name,
        "seed": seed,
        "round": number,
        "self_supervised_steps": number * 1000 if isinstance(number, int) else "",
        "split": where[0],
        "context": where[1],
        "return": round(value, 4),
        "num_tasks": 30,
        "num_repeats": 2,
    }


def _over(
    arm: Made, number: object, where: tuple[str, str], value: float, scale: float = 1.0
) -> dict[str, object]:
    ends = {"low": value - arm.width * scale, "high": value + arm.width * scale}
    return _row(arm, "all", number, where, value) | ends
