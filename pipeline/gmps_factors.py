"""How many true-reward steps methods need to the same return: from the learning curves alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

FACTORS = "gmps-factors.csv"
HEAD = [
    *("environment", "method", "other", "best", "other_best", "level"),
    *("steps", "other_steps", "factor", "expert_steps", "factor_with_expert"),
]


@dataclass(frozen=True)
class Curve:
    """The mean over seeds of a learning curve.

    Args:
        steps: ``[P]`` with true reward, of one seed.
        reached: ``[P]`` return after adaptation.
        expert_steps: With true reward, behind its experts.
    """

    steps: np.ndarray
    reached: np.ndarray
    expert_steps: float

    def first(self, level: float) -> float:
        """Tell after how many steps a return is first reached; a table's first point counts."""
        return float(self.steps[np.argmax(self.reached >= level)])


def curves(rows: Sequence[Mapping[str, str]]) -> dict[tuple[str, str], Curve]:
    """Average learning curves over seeds.

    Args:
        rows: Of gmps-steps.csv.

    Returns:
        By environment and method; as long as the shortest of its seeds.
    """
    points: dict[tuple[str, str], dict[str, list[tuple[float, float]]]] = {}
    expert: dict[tuple[str, str], float] = {}
    for row in rows:
        key = (row["environment"], row["method"])
        point = (float(row["environment_steps"]), float(row["test_return"]))
        points.setdefault(key, {}).setdefault(row["seed"], []).append(point)
        expert[key] = float(row["expert_steps"])
    found = {}
    for key, seeds in points.items():
        shortest = min(map(len, seeds.values()))
        mean = np.mean([seed[:shortest] for seed in seeds.values()], axis=0)
        found[key] = Curve(mean[:, 0], mean[:, 1], expert[key])
    return found


def factor_rows(rows: Sequence[Mapping[str, str]]) -> list[list[object]]:
    """Compare GMPS with everything else in its environment.

    The level is the highest mean return that both reach at any point of their curves, so the one
    whose best is lower is judged where it is best. A curve that never rises above its first point
    has learned nothing, and there is no factor.

    Args:
        rows: Of gmps-steps.csv.

    Returns:
        A row a pair: steps to the level, and how many times those of GMPS the other needs.
    """
    found = curves(rows)
    table: list[list[object]] = []
    for (env, method), own in found.items():
        if not method.startswith("gmps"):
            continue
        for (other_env, name), other in found.items():
            if other_env != env or name.startswith("gmps"):
                continue
            best, other_best = float(own.reached.max()), float(other.reached.max())
            if best <= own.reached[0] or other_best <= other.reached[0]:
                continue
            level = min(best, other_best)
            steps, others = own.first(level), other.first(level)
            whole = steps + own.expert_steps
            factors = [others / n if n else float("nan") for n in (steps, whole)]
            table.append(
                [
                    *(env, method, name, best, other_best, level),
                    *(steps, others, factors[0], own.expert_steps, factors[1]),
                ]
            )
    return table
