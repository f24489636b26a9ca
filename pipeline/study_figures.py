"""The figures of the study's page, from its table alone."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pipeline.report_style import (
    FLOOR,
    OFFLINE,
    OWN,
    PIXELS,
    colour,
    grid,
    label_ends,
    legend_below,
    marker,
    styled,
    thousands,
)
from pipeline.study_arm_figures import (
    ERRORS,
    divergences,
    draw_gain,
    draw_pairs,
    errors,
    gaps,
    plain,
)
from pipeline.study_table import Study, StudyArm
from pipeline.study_verdicts import MATCHED, TEST_OWN, TRAIN_OWN
from pipeline.study_verdicts import OFFLINE as GIVEN

MAIN = ("smac", "oracle", "meta-bc", "paper")  # of the curves
_FLOORS = {"nothing": "do nothing", "random": "random actions"}

Where = tuple[str, str]
"""Split and context."""


def draw_study(study: Study, folder: Path, only: Collection[str] | None = None) -> dict[str, str]:
    """Draw every figure for which there are numbers.

    Args:
        study: All rows.
        folder: Where the PNG files go; it is there.
        only: File names without ``.png`` of those that are wanted; ``None`` is all of them.

    Returns:
        What each shows, by name of its file.
    """
    drawn: dict[str, str] = {}
    with styled():
        for name, figure, shows in _figures(study):
            path = folder / f"study-{name}.png"
            if figure is not None and (only is None or path.stem in only):
                figure.savefig(path, dpi=PIXELS, metadata={"Software": None})
                drawn[path.name] = shows
    return drawn


def _figures(study: Study) -> Iterator[tuple[str, Figure | None, str]]:
    for base in study.bases:
        yield (
            f"curves-{base}",
            draw_curves(study, base),
            f"{base}: return against environment steps without reward, with 95 % intervals. Left: "
            "held-out tasks, context of the agent's own exploration. Right: training tasks, own "
            "contexts (lines) and offline contexts of the same size (dashes)",
        )
    yield (
        "gain",
        draw_gain(study),
        "Return on held-out tasks after self-supervision minus before, with 95 % stratified "
        "bootstrap intervals; small dots are seeds, grey intervals include zero",
    )
    yield (
        "gap",
        draw_pairs(study, gaps, "offline-context minus own-context return, training tasks"),
        "What an offline context is worth over one of the agent's own, before (open) and after "
        "(filled) self-supervision",
    )
    yield (
        "kl",
        draw_pairs(study, divergences, "posterior KL from the prior, nats"),
        "KL of the posterior under own and offline contexts of equal size, before (open) and after "
        "(filled) self-supervision",
    )
    yield (
        "decoder",
        draw_pairs(study, errors, "error of decoded rewards (RMS), training tasks", log=True),
        "The decoder against the true reward, z from offline data, after the offline phase (open) "
        "and after the last round (filled)",
    )
    yield (
        "decoder-rounds",
        draw_decoder_rounds(study),
        "The decoder's error over the rounds of the default arm; thin lines are seeds",
    )
    yield (
        "critic",
        draw_critic(study),
        "What the critic promises at the start of an episode against what came of it, a dot an "
        "arm: open before, filled after self-supervision; above the line it promises too much",
    )


def draw_curves(study: Study, base: str) -> Figure | None:
    """Draw the main arms of an environment.

    Args:
        study: All rows.
        base: The environment.

    Returns:
        The figure; None: none of them ran there.
    """
    arms = [a for a in study.of(base) if a.env == base and (a.name in MAIN or a.of == "paper")]
    if not arms:
        return None
    figure, panels = grid(2, 2, 3.9)
    for axes, contexts in zip(panels, ((TEST_OWN,), (MATCHED, GIVEN)), strict=True):
        labels = _curves(axes, study, arms, contexts)
        if contexts == (TEST_OWN,):
            for floor, name in _FLOORS.items():
                value = study.mean(arms[0], 0, ("test", floor))
                if math.isfinite(value):
                    axes.axhline(value, color=FLOOR, linestyle="--", linewidth=1.2, zorder=1)
                    labels.append((value, name, FLOOR))
        axes.set_title(f"{base}, {'held-out' if contexts == (TEST_OWN,) else 'training'} tasks")
        axes.set(xlabel="environment steps without reward", ylabel="return")
        thousands(axes)
        axes.margins(y=0.08)
        label_ends(axes, labels, 2.7)
    return figure


def _curves(
    axes: Axes, study: Study, arms: Sequence[StudyArm], contexts: Sequence[Where]
) -> list[tuple[float, str, str]]:
    """Draw all curves of a panel; gives height, text and colour of their labels."""
    ends_at = [study.steps(a, a.rounds, contexts[0]) for a in arms if a.rounds]
    reach = max((steps for steps in ends_at if math.isfinite(steps)), default=1.0)
    labels = []
    for place, arm in enumerate(arms):
        for where in contexts:
            curve = _curve(study, arm, where, reach)
            if curve is None:
                continue
            steps, centre, ends = curve
            dashed = where == GIVEN
            shade, mark = colour(place), marker(place) if arm.rounds else ""
            axes.fill_between(steps, *ends.T, color=shade, alpha=0.08 if dashed else 0.16, lw=0)
            style = "--" if dashed else "-" if arm.rounds else "-."
            axes.plot(steps, centre, style, color=shade, marker=mark, markersize=5)
            if not dashed:
                labels.append((float(centre[-1]), arm.label, shade))
    axes.set_xlim(-0.02 * reach, 1.02 * reach)
    return labels


def _curve(
    study: Study, arm: StudyArm, where: Where, reach: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Steps, means and intervals; a level line for an arm without rounds."""
    numbers = study.numbers(arm, where)
    found = [i for n in numbers if (i := study.interval(arm, n, where)) is not None]
    if not found:
        return None
    steps = np.array([study.steps(arm, n, where) for n in numbers])
    centre = np.array([i.mean for i in found])
    ends = np.array([(i.low, i.high) if i.known else (i.mean, i.mean) for i in found])
    if arm.rounds == 0:
        return np.array([0.0, reach]), centre.repeat(2), ends.repeat(2, axis=0)
    return steps, centre, ends


def draw_decoder_rounds(study: Study) -> Figure | None:
    """Draw the decoder's error over the rounds of the default arm.

    Args:
        study: All rows.

    Returns:
        The figure; None: it was not measured.
    """
    arms = [arm for base in study.bases if (arm := study.find(base, MAIN[0])) and arm.rounds]
    if not arms:
        return None
    figure, panels = grid(len(arms), 2, 3.2)
    drawn = 0
    for axes, arm in zip(panels, arms, strict=True):
        numbers = study.numbers(arm, TRAIN_OWN)
        for column, (name, shade) in ERRORS.items():
            found = [study.by_seed(arm, n, TRAIN_OWN, column) for n in numbers]
            table = np.sqrt(np.array(found).reshape(len(numbers), -1))
            known = np.isfinite(table).all(axis=1)
            if not known.any():
                continue
            drawn += 1
            rounds = np.array(numbers)[known]
            axes.plot(rounds, table[known], color=shade, linewidth=0.8, alpha=0.5)
            axes.plot(rounds, table[known].mean(axis=1), color=shade, marker="o", ms=4, label=name)
        axes.set(title=f"{arm.env}, {arm.label}", xlabel="round", yscale="log")
        axes.set_ylabel("error of decoded rewards (RMS)")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        plain(axes.yaxis)
    if not drawn:
        return None
    legend_below(figure, panels)
    return figure


def draw_critic(study: Study) -> Figure | None:
    """Draw the critic's promises against what came of them.

    Args:
        study: All rows.

    Returns:
        The figure; None: no critic was asked.
    """
    kinds = (
        ("own context, training tasks", OWN, MATCHED),
        ("offline context, training tasks", OFFLINE, GIVEN),
        ("own context, held-out tasks", "#0072B2", TEST_OWN),
    )
    figure, panels = grid(len(study.bases), 2, 4.0)
    drawn = 0
    for axes, base in zip(panels, study.bases, strict=True):
        values: list[float] = []
        for arm in study.of(base):
            for name, shade, where in kinds:
                for number in dict.fromkeys((0, arm.rounds)):
                    pair = [
                        study.mean(arm, number, where, column)
                        for column in ("discounted_return", "start_value")
                    ]
                    if not np.isfinite(pair).all():
                        continue
                    drawn += 1
                    values += pair
                    filled = shade if number or not arm.rounds else "white"
                    label = name if filled != "white" else None
                    axes.plot(*pair, "o", color=shade, markerfacecolor=filled, ms=5, label=label)
        if values:
            ends = [min(values), max(values)]
            axes.plot(ends, ends, color=FLOOR, linewidth=1.0, zorder=1)
        axes.set(
            title=base, xlabel="realised discounted return, scaled", ylabel="min Q at the start"
        )
    if not drawn:
        return None
    legend_below(figure, panels, 3)
    return figure
