"""The figures that compare methods."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.intervals import Interval
from pipeline.report_comparison import Comparison, EnvComparison
from pipeline.report_numbers import Numbers
from pipeline.report_quantities import FLOORS
from pipeline.report_style import (
    FLOOR,
    TEXT,
    WIDTH,
    colour,
    grid,
    legend_below,
    line_style,
)

_ROW = 0.34  # inches a method
_SMALL = 8  # letters in the cells of a matrix


def places(numbers: Numbers, env: str) -> dict[str, int]:
    """Number the methods of a run, which fixes their colours.

    Args:
        numbers: What was computed.
        env: The environment.

    Returns:
        Place by name.
    """
    return {method.name: place for place, method in enumerate(numbers.methods[env])}


def draw_iqm(comparison: Comparison, numbers: Numbers) -> Figure | None:
    """Draw the interquartile mean of every method with its interval, before and after.

    Args:
        comparison: The comparison.
        numbers: What was computed.

    Returns:
        The figure; None: nothing was evaluated.
    """
    if not comparison.envs:
        return None
    rows = max(len(env.methods) for env in comparison.envs)
    columns = 2 if len(comparison.envs) > 1 else 1
    figure, panels = grid(len(comparison.envs), columns, 1.2 + _ROW * rows)
    for env, axes in zip(comparison.envs, panels, strict=True):
        _draw_iqm(axes, env, numbers)
    _iqm_legend(panels[0])
    legend_below(figure, panels, 3)
    return figure


def _draw_iqm(axes: Axes, env: EnvComparison, numbers: Numbers) -> None:
    place_of = places(numbers, env.name)
    for row, method in enumerate(env.methods):
        shade = colour(place_of[method.name])
        prior = method.unadapted.get(method.last)
        if prior is not None:
            axes.plot(prior.mean, row, "|", color=shade, markersize=11, markeredgewidth=2)
        rounds = [(0, -0.16)] if method.last == 0 else [(0, -0.16), (method.last, 0.16)]
        for number, offset in rounds:
            value = method.iqm.get(number)
            if value is not None:
                fill = shade if number else "white"
                _dot(axes, value, row + offset, shade, fill)
    for floor, interval in numbers.floors[env.name].items():
        style = "--" if floor == "nothing_return" else ":"
        axes.axvline(interval.mean, color=FLOOR, linestyle=style, linewidth=1.2, zorder=1)
    axes.set_yticks(range(len(env.methods)), [method.label for method in env.methods])
    axes.set_ylim(len(env.methods) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.set(title=env.name, xlabel="IQM of the return on held-out tasks")


def _dot(axes: Axes, value: Interval, height: float, shade: str, fill: str) -> None:
    if value.known:
        axes.plot([value.low, value.high], [height] * 2, "-", color=shade, linewidth=2.2)
    axes.plot(value.mean, height, "o", color=shade, markerfacecolor=fill, markersize=6)


def _iqm_legend(axes: Axes) -> None:
    entries = {
        "after the offline phase": {"marker": "o", "markerfacecolor": "white", "linestyle": "-"},
        "after the last round": {"marker": "o", "linestyle": "-"},
        "without adaptation, last round": {"marker": "|", "markersize": 11, "linestyle": ""},
    }
    for label, look in entries.items():
        axes.plot([], [], color=TEXT, label=label, **look)  # type: ignore[arg-type]
    for floor, style in (("nothing_return", "--"), ("random_return", ":")):
        axes.plot([], [], style, color=FLOOR, linewidth=1.2, label=FLOORS[floor])


def draw_improvement(env: EnvComparison) -> Figure | None:
    """Draw how likely each method improves on each other, after the last round, as a matrix.

    Args:
        env: The comparison of an environment.

    Returns:
        The figure; None: there are no two methods to compare.
    """
    if not env.final:
        return None
    methods = env.methods
    count = len(methods)
    table = np.full((count, count), np.nan)
    for row, method in enumerate(methods):
        for column, other in enumerate(methods):
            value = env.final.get((method.name, other.name))
            table[row, column] = np.nan if value is None else value.mean
    size = min(WIDTH, 2.6 + 0.62 * count)
    figure = Figure(figsize=(size, 1.5 + 0.4 * count), layout="constrained")
    axes = figure.subplots()
    axes.imshow(table, cmap="PuOr_r", vmin=0, vmax=1, aspect="auto", alpha=0.85)
    labels = [method.label for method in methods]
    axes.set_xticks(range(count), labels, rotation=35, ha="left", rotation_mode="anchor")
    axes.set_yticks(range(count), labels)
    axes.tick_params(top=True, labeltop=True, bottom=False, labelbottom=False, length=0)
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    _write_cells(axes, env, table)
    return figure


def _write_cells(axes: Axes, env: EnvComparison, table: np.ndarray) -> None:
    """Write each share; bold where its interval leaves one half out."""
    for row, method in enumerate(env.methods):
        for column, other in enumerate(env.methods):
            value = env.final.get((method.name, other.name))
            if value is None:
                axes.text(column, row, "–", ha="center", va="center", color=FLOOR)
                continue
            clear = value.known and not value.low <= 0.5 <= value.high
            axes.text(
                *(column, row, f"{value.mean:.2f}"),
                ha="center",
                va="center",
                fontsize=_SMALL,
                fontweight="bold" if clear else "normal",
                color="white" if abs(table[row, column] - 0.5) > 0.35 else TEXT,
            )


def draw_profiles(comparison: Comparison, numbers: Numbers) -> Figure | None:
    """Draw the share of seeds and tasks above every return: the performance profiles.

    Args:
        comparison: The comparison.
        numbers: What was computed.

    Returns:
        The figure; None: nothing was evaluated.
    """
    envs = [env for env in comparison.envs if env.profiles]
    if not envs:
        return None
    figure, panels = grid(len(envs), 2 if len(envs) > 1 else 1, 3.9)
    for env, axes in zip(envs, panels, strict=True):
        place_of = places(numbers, env.name)
        for method in env.methods:
            found = env.profiles.get(method.name)
            if found is None:
                continue
            place = place_of[method.name]
            shade = colour(place)
            axes.plot(
                *(found.thresholds, 100 * found.share),
                color=shade,
                linestyle=line_style(place),
                linewidth=1.7,
                label=method.label,
            )
            axes.fill_between(
                *(found.thresholds, 100 * found.low, 100 * found.high),
                color=shade,
                alpha=0.1,
                lw=0,
            )
        axes.set(title=env.name, xlabel="return τ, last episode", ylim=(0, 101))
        axes.set_ylabel("% of seeds and tasks above τ")
        axes.margins(x=0)
    legend_below(figure, panels, 4)
    return figure
