"""The figures of GMPS's page, from its tables alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline import report_style as style
from pipeline.gmps_factors import curves
from pipeline.gmps_tables import COLLECTOR, EXPERT, RETURN

Table = Sequence[Mapping[str, str]]
LABELS = {
    **{"gmps": "GMPS", "maml-pg": "MAML-PG", COLLECTOR: "PEARL"},
    **{"oracle-scratch": "PEARL", EXPERT: "expert, on training tasks"},
}
SUCCESS, NEAR = "success", "near"  # measures that are shares of episodes


def names(rows: Table, column: str) -> list[str]:
    """List what a column holds, each once, in the table's order."""
    return list(dict.fromkeys(row[column] for row in rows))


def numbers(rows: Iterable[Mapping[str, str]], column: str) -> np.ndarray:
    """Read a column of numbers."""
    return np.array([float(row[column]) for row in rows])


class Look:
    """Colours and markers, the same for a method in every panel.

    Args:
        rows: Of any table.
    """

    def __init__(self, rows: Table) -> None:
        shown = sorted({LABELS.get(m, m) for m in names(rows, "method") if m != EXPERT})
        self.place = {label: place for place, label in enumerate(shown)}

    def __call__(self, method: str) -> dict[str, Any]:
        """Return the arguments of a plot."""
        place = self.place[LABELS.get(method, method)]
        return {"color": style.colour(place), "marker": style.marker(place)}


def save(figure: Figure, panels: Sequence[Axes], folder: Path, name: str) -> None:
    """Write a figure with one legend."""
    style.legend_below(figure, panels)
    figure.savefig(folder / f"{name}.png", dpi=style.PIXELS, metadata={"Software": None})


def _panels(rows: Table, name: str = "environment") -> list[tuple[Figure, Axes, list[Any]]]:
    shown = names(rows, name)
    figure, panels = style.grid(len(shown), 2, 3.2)
    out = []
    for axes, title in zip(panels, shown, strict=True):
        axes.set_title(title)
        out.append((figure, axes, [row for row in rows if row[name] == title]))
    return out


def _expert(axes: Axes, outcomes: Table, environment: str, measure: str) -> None:
    """Draw what the expert's demonstrations reach."""
    for row in outcomes:
        if (row["environment"], row["method"], row["measure"]) == (environment, EXPERT, measure):
            look: Any = {"color": style.TEXT, "linestyle": "--", "linewidth": 1.2}
            axes.axhline(float(row["mean"]), label=LABELS[EXPERT], **look)


def _bars(
    axes: Axes, shown: Table, rows: Table, label: str, look: Mapping[str, Any], shift: float
) -> None:
    """Draw means with intervals against those numbers of exploration episodes that are shown."""
    ticks = [str(n) for n in sorted({int(row["explored"]) for row in shown})]
    at = np.array([ticks.index(row["explored"]) for row in rows]) + shift
    mean, low, high = (numbers(rows, column) for column in ("mean", "low", "high"))
    axes.errorbar(at, mean, (mean - low, high - mean), label=label, capsize=3, **look)
    axes.set_xticks(range(len(ticks)), ticks)
    axes.set_xlabel("exploration episodes (0: un-adapted)")


def draw_episodes(adapted: Table, outcomes: Table, folder: Path) -> None:
    """Return after adaptation against the number of exploration episodes.

    Args:
        adapted: gmps.csv.
        outcomes: gmps-outcomes.csv.
        folder: Where the figure goes.
    """
    whole = [row for row in adapted if row["seed"] == "all"]
    look, drawn = Look(whole), _panels(whole)
    for _, axes, rows in drawn:
        for place, method in enumerate(names(rows, "method")):
            own = [row for row in rows if row["method"] == method]
            _bars(axes, rows, own, LABELS.get(method, method), look(method), 0.06 * place)
        _expert(axes, outcomes, rows[0]["environment"], RETURN[0])
        axes.set_ylabel("return on held-out tasks")
    save(drawn[0][0], [axes for _, axes, _ in drawn], folder, "gmps-episodes")


def draw_success(outcomes: Table, folder: Path) -> None:
    """Share of successful episodes against the number of exploration episodes.

    Args:
        outcomes: gmps-outcomes.csv.
        folder: Where the figure goes.
    """
    shares = [row for row in outcomes if row["measure"] in (SUCCESS, NEAR)]
    told = [row for row in shares if row["method"] != EXPERT]
    if not told:
        return
    look, drawn = Look(told), _panels(told)
    for _, axes, rows in drawn:
        for place, method in enumerate(names(rows, "method")):
            for measure, line in ((SUCCESS, "-"), (NEAR, ":")):
                own = [r for r in rows if (r["method"], r["measure"]) == (method, measure)]
                label = LABELS.get(method, method) + (", near" if measure == NEAR else "")
                more = {"linestyle": line, "fillstyle": "none" if measure == NEAR else "full"}
                if own:
                    _bars(axes, rows, own, label, look(method) | more, 0.06 * place)
        _expert(axes, outcomes, rows[0]["environment"], SUCCESS)
        axes.set_ylim(-0.03, 1.05)
        axes.set_ylabel("share of held-out episodes")
    save(drawn[0][0], [axes for _, axes, _ in drawn], folder, "gmps-success")


def draw_steps(steps: Table, folder: Path) -> None:
    """Return of the adapted policy against true-reward steps of its meta-training.

    Args:
        steps: gmps-steps.csv.
        folder: Where the figure goes.
    """
    look, drawn, means = Look(steps), _panels(steps), curves(steps)
    for _, axes, rows in drawn:
        for method in names(rows, "method"):
            own = [row for row in rows if row["method"] == method]
            shade, label = {"color": look(method)["color"]}, LABELS.get(method, method)
            for seed in names(own, "seed"):
                one = [row for row in own if row["seed"] == seed]
                thin: Any = {**shade, "linewidth": 0.7, "alpha": 0.5}
                at = numbers(one, "environment_steps")
                axes.plot(at[at > 0], numbers(one, "test_return")[at > 0], **thin)
            mean = means[rows[0]["environment"], method]
            seen = mean.steps > 0  # the axis has no zero
            axes.plot(mean.steps[seen], mean.reached[seen], label=label, **shade)
            if mean.expert_steps:
                whole = mean.steps[seen] + mean.expert_steps
                told = f"{label}, with its expert's steps"
                axes.plot(whole, mean.reached[seen], label=told, linestyle=":", **shade)
        axes.set_xscale("log")
        axes.set_xlabel("environment steps with true reward")
        axes.set_ylabel("return after adaptation")
    save(drawn[0][0], [axes for _, axes, _ in drawn], folder, "gmps-steps")
