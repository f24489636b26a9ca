"""The figures of the study's page that have a row an arm."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from pipeline.report_style import FLOOR, OFFLINE, OWN, TEXT, WIDTH, colour, legend_below
from pipeline.study_table import CHANGE, Study, StudyArm
from pipeline.study_verdicts import GAP, MATCHED, TEST_OWN, TRAIN_OWN
from pipeline.study_verdicts import OFFLINE as GIVEN

ERRORS = {  # where the decoder is asked, always with a z of the offline data
    "offline_decoder_mse": ("offline data", OFFLINE),
    "exploration_decoder_mse": ("exploration", OWN),
    "adapted_decoder_mse": ("after adaptation", "#0072B2"),
}
_ROW = 0.27  # inches, of an arm

Pair = tuple[str, str, float, float]
"""Name, colour, and the values before and after self-supervision."""


def by_question(arms: Sequence[StudyArm]) -> Iterator[tuple[str, list[StudyArm]]]:
    """Group arms by what they ask, methods first.

    Args:
        arms: In their order.

    Yields:
        The question, empty for methods, and its arms.
    """
    for question in dict.fromkeys(["", *(arm.question for arm in arms)]):
        found = [arm for arm in arms if arm.question == question]
        if found:
            yield question, found


def _rows(study: Study) -> tuple[Figure, list[tuple[Axes, list[StudyArm]]]]:
    """Make a panel an environment, one row an arm with rounds, questions as headings."""
    shown = [(base, [a for a in study.of(base) if a.rounds]) for base in study.bases]
    shown = [(base, arms) for base, arms in shown if arms]
    lines = [len(arms) + len({a.question for a in arms if a.question}) for _, arms in shown]
    inches = [1.0 + _ROW * count for count in lines]
    figure = Figure(figsize=(WIDTH, sum(inches)), layout="constrained")
    panels = figure.subplots(len(shown), 1, squeeze=False, height_ratios=inches)[:, 0]
    out = []
    for axes, (base, arms) in zip(panels, shown, strict=True):
        axes.set_title(base)
        out.append((axes, _label_rows(axes, arms)))
    return figure, out


def _label_rows(axes: Axes, arms: Sequence[StudyArm]) -> list[StudyArm]:
    """Write the arms' names; gives them with their places as the axis has them."""
    places: list[float] = []
    names: list[str] = []
    ordered: list[StudyArm] = []
    place = 0
    for question, group in by_question(arms):
        if question:
            axes.annotate(
                question,
                (0.0, place),
                xycoords=("axes fraction", "data"),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                fontsize=8.5,
                style="italic",
                color=FLOOR,
            )
            place += 1
        for arm in group:
            places.append(place)
            names.append(arm.title)
            ordered.append(arm)
            place += 1
    axes.set_yticks(places, names)
    axes.set_ylim(place - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)
    return ordered


def _with_places(axes: Axes, arms: Sequence[StudyArm]) -> Iterator[tuple[float, StudyArm]]:
    return zip((float(place) for place in axes.get_yticks()), arms, strict=True)


def plain(axis: Axis) -> None:
    """Write the numbers of a logarithmic axis without exponents.

    Args:
        axis: The axis.
    """
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def draw_gain(study: Study) -> Figure | None:
    """Draw what each arm gained on held-out tasks.

    Args:
        study: All rows.

    Returns:
        The figure; None: no arm has rounds.
    """
    if not any(arm.rounds for arm in study.arms):
        return None
    figure, panels = _rows(study)
    for axes, arms in panels:
        axes.axvline(0.0, color=TEXT, linewidth=1.0, zorder=1)
        for place, arm in _with_places(axes, arms):
            _draw_gain_row(axes, study, arm, place)
        axes.set_xlabel("return on held-out tasks, after self-supervision minus before")
    return figure


def _draw_gain_row(axes: Axes, study: Study, arm: StudyArm, place: float) -> None:
    value = study.interval(arm, CHANGE, TEST_OWN)
    if value is None:
        return
    rises = colour(0) if value.mean > 0 else colour(1)
    shade = FLOOR if value.includes_zero else rises
    if value.known:
        axes.plot([value.low, value.high], [place, place], color=shade, linewidth=2.2)
    axes.plot(value.mean, place, "D", color=shade, markersize=6)
    after, before = (study.by_seed(arm, n, TEST_OWN) for n in (arm.rounds, 0))
    places = np.full(len(study.seeds), place)
    axes.plot(after - before, places, "o", color=TEXT, markersize=2.5, alpha=0.6)


def gaps(study: Study, arm: StudyArm) -> list[Pair]:
    """Compare what offline contexts are worth over own ones."""
    found = [study.interval(arm, number, GAP) for number in (0, arm.rounds)]
    means = [math.nan if it is None else it.mean for it in found]
    return [("", colour(0), means[0], means[1])]


def divergences(study: Study, arm: StudyArm) -> list[Pair]:
    """Compare the posterior's KL under both contexts."""
    out = []
    for name, shade, where in (("own context", OWN, MATCHED), ("offline context", OFFLINE, GIVEN)):
        before, after = (study.mean(arm, n, where, "posterior_kl") for n in (0, arm.rounds))
        out.append((name, shade, before, after))
    return out


def errors(study: Study, arm: StudyArm) -> list[Pair]:
    """Compare the decoder's root mean squared errors."""
    out = []
    for column, (name, shade) in ERRORS.items():
        before, after = (study.mean(arm, n, TRAIN_OWN, column) for n in (0, arm.rounds))
        out.append((name, shade, math.sqrt(before), math.sqrt(after)))
    return out


def draw_pairs(
    study: Study,
    pairs: Callable[[Study, StudyArm], list[Pair]],
    label: str,
    *,
    log: bool = False,
) -> Figure | None:
    """Draw quantities of every arm before and after self-supervision.

    Args:
        study: All rows.
        pairs: What is drawn of an arm.
        label: Of the axis.
        log: Whether the axis is logarithmic.

    Returns:
        The figure; None: nothing was measured.
    """
    known = [p for arm in study.arms if arm.rounds for p in pairs(study, arm)]
    if not any(math.isfinite(before + after) for _, _, before, after in known):
        return None
    figure, panels = _rows(study)
    for axes, arms in panels:
        for place, arm in _with_places(axes, arms):
            _draw_pairs_row(axes, pairs(study, arm), place)
        if log:
            axes.set_xscale("log")
            plain(axes.xaxis)
        else:
            axes.axvline(0.0, color=TEXT, linewidth=1.0, zorder=1)
        axes.set_xlabel(label)
    if any(name for name, _, _, _ in known):
        legend_below(figure, [axes for axes, _ in panels])
    return figure


def _draw_pairs_row(axes: Axes, pairs: Sequence[Pair], place: float) -> None:
    shifts = np.linspace(-0.2, 0.2, len(pairs)) if len(pairs) > 1 else np.zeros(1)
    for at, (name, shade, before, after) in zip(place + shifts, pairs, strict=True):
        if math.isfinite(before + after):
            axes.plot([before, after], [at, at], color=shade, linewidth=1.4, alpha=0.7)
            axes.plot(before, at, "o", color=shade, markerfacecolor="white", markersize=4.5)
            axes.plot(after, at, "o", color=shade, markersize=4.5, label=name or None)
