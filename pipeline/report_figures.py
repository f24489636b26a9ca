"""The figures about returns and contexts, and the folder of all figures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.report_behaviour import draw_collection, draw_paths, draw_pictures, draw_training
from pipeline.report_comparison import Comparison, MethodComparison
from pipeline.report_comparison_figures import draw_improvement, draw_iqm, draw_profiles
from pipeline.report_data import EnvResults, Results
from pipeline.report_numbers import MethodNumbers, Numbers
from pipeline.report_paths import draw_context_paths, draw_tasks, draw_tracking
from pipeline.report_quantities import FLOORS, mean
from pipeline.report_style import (
    FLOOR,
    OFFLINE,
    OWN,
    TEXT,
    WIDTH,
    Drawing,
    colour,
    grid,
    label_ends,
    legend_below,
    marker,
    save,
    styled,
    thousands,
)
from pipeline.report_text import number

CURVE, EPISODES, TASKS = "return_against_steps", "return_by_episode", "tasks"
_FEW = 4  # methods; with more, single seeds are left out
_THIN: Any = {"linewidth": 0.8, "alpha": 0.55}
_PLAIN: Any = {"fontsize": 10, "fontweight": "normal"}


def draw_figures(
    results: Results, numbers: Numbers, comparison: Comparison, folder: Path
) -> dict[str, Drawing]:
    """Draw every figure for which there are data, and write them as SVG and PNG.

    Args:
        results: What was read.
        numbers: What was computed.
        comparison: The comparison of the methods.
        folder: Where; it is there.

    Returns:
        The figures by name.
    """
    drawings: dict[str, Drawing] = {}
    with styled():

        def keep(name: str, figure: Figure | None, alt: str) -> None:
            if figure is not None:
                drawings[name] = save(figure, folder, name, alt)

        keep(
            CURVE,
            draw_curves(numbers, comparison),
            "Return on held-out tasks against steps without reward",
        )
        keep(EPISODES, draw_episodes(results, numbers), "Return of each episode of a meta-episode")
        iqm = draw_iqm(comparison, numbers)
        keep("comparison_iqm", iqm, "Interquartile mean of every method")
        profiles = draw_profiles(comparison, numbers)
        keep("performance_profiles", profiles, "Share of seeds and tasks above every return")
        for compared in comparison.envs:
            alt = f"Probability of improvement, {compared.name}"
            keep(f"improvement_{compared.name}", draw_improvement(compared), alt)
        keep(TASKS, draw_tasks(results.envs), "Training and held-out tasks")
        for env in results.envs:
            shift = draw_shift(env, numbers)
            keep(f"context_shift_{env.name}", shift, f"Posterior KL and returns, {env.name}")
            paths = draw_paths(env, numbers.methods[env.name])
            keep(f"behaviour_{env.name}", paths, f"Behaviour on held-out tasks, {env.name}")
            contexts = draw_context_paths(env)
            keep(f"context_paths_{env.name}", contexts, f"Paths under both contexts, {env.name}")
            tracking = draw_tracking(env)
            keep(f"tracking_{env.name}", tracking, f"Velocity over time, {env.name}")
            pictures = draw_pictures(env)
            keep(f"pictures_{env.name}", pictures, f"Each behaviour, by its script, {env.name}")
            collection = draw_collection(env, numbers.floors[env.name])
            keep(f"collection_{env.name}", collection, f"Learning curve of collection, {env.name}")
            training = draw_training(env)
            keep(f"training_{env.name}", training, f"Training curves, {env.name}")
    return drawings


def draw_curves(numbers: Numbers, comparison: Comparison) -> Figure | None:
    """Draw the return after adaptation against steps without reward: the paper's Figure 5.

    Args:
        numbers: All numbers.
        comparison: The comparison of the methods, which has the bands.

    Returns:
        The figure; None: nothing was evaluated.
    """
    envs = [env for env, methods in numbers.methods.items() if any(m.rounds for m in methods)]
    if not envs:
        return None
    compared = {env.name: {m.name: m for m in env.methods} for env in comparison.envs}
    many = max(len(numbers.methods[env]) for env in envs) > _FEW
    figure, panels = grid(len(envs), 1 if many else 2, 4.2 if many else 3.9)
    for env, axes in zip(envs, panels, strict=True):
        _draw_curve(axes, env, numbers, compared[env])
    return figure


def _curve(
    method: MethodNumbers, compared: MethodComparison
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Steps, mean, and both ends of its interval; the ends are the mean where unknown."""
    rounds = [r for r in method.rounds if r in compared.mean]
    found = [compared.mean[r] for r in rounds]
    ends = [(i.low, i.high) if i.known else (i.mean, i.mean) for i in found]
    steps = np.array([method.steps[r] for r in rounds])
    return steps, np.array([i.mean for i in found]), np.array(ends).reshape(len(found), 2).T


def _draw_curve(
    axes: Axes, env: str, numbers: Numbers, compared: Mapping[str, MethodComparison]
) -> None:
    methods = numbers.methods[env]
    labels = []
    reach = max((m.steps[m.rounds[-1]] for m in methods if m.rounds), default=0.0) or 1.0
    for place, method in enumerate(methods):
        if not method.rounds:
            continue
        shade = colour(place)
        steps, centre, ends = _curve(method, compared[method.name])
        if len(steps) == 0:
            continue
        flat = not method.adapted
        if flat:
            steps, centre, ends = (
                np.array([0.0, reach]),
                centre[:1].repeat(2),
                ends[:, :1].repeat(2, 1),
            )
        elif len(methods) <= _FEW:
            table = [method.seed_means(r, "test_return") for r in method.rounds]
            axes.plot([method.steps[r] for r in method.rounds], table, color=shade, **_THIN)
        axes.fill_between(steps, *ends, color=shade, alpha=0.16, lw=0)
        style = "-." if flat else "-"
        axes.plot(steps, centre, style, color=shade, marker="" if flat else marker(place), ms=5)
        labels.append((float(centre[-1]), method.label, shade))
    for floor, interval in numbers.floors[env].items():
        axes.axhline(interval.mean, color=FLOOR, linestyle="--", linewidth=1.2, zorder=1)
        labels.append((interval.mean, FLOORS[floor], FLOOR))
    axes.set(title=env, xlabel="environment steps without reward")
    axes.set_ylabel("return on held-out tasks")
    axes.set_xlim(-0.02 * reach, 1.02 * reach)
    thousands(axes)
    axes.margins(y=0.08)
    label_ends(axes, [label for label in labels if np.isfinite(label[0])], 3.0)


def draw_shift(env: EnvResults, numbers: Numbers) -> Figure | None:
    """Draw the posterior's KL under offline and own contexts, and the returns: Figure 2.

    Args:
        env: What was read.
        numbers: All numbers.

    Returns:
        The figure; None: no method measured both contexts.
    """
    methods = [m for m in numbers.methods[env.name] if (0, "kl_gap") in m.at]
    chosen = [m for m in methods if m.adapted] or methods
    if not chosen:
        return None
    figure = Figure(figsize=(WIDTH, 2.95 * len(chosen) + 0.3), layout="constrained")
    rows = np.ravel(figure.subfigures(len(chosen), 1, squeeze=False, hspace=0.04))
    panels: list[Axes] = []
    for part, method in zip(rows, chosen, strict=True):
        part.suptitle(method.label, x=0.012, ha="left", fontweight="bold", fontsize=11)
        columns = [*part.subplots(1, 3 if method.adapted else 2, squeeze=False)[0]]
        _draw_shift_row(columns, env, method)
        panels += columns
    legend_below(figure, panels)
    return figure


def _kl_values(env: EnvResults, method: MethodNumbers, round_: int, arm: str) -> np.ndarray:
    results = next(m for m in env.methods if m.name == method.name)
    values = [
        evaluation.arms[arm]["posterior_kl"].ravel()
        for (_, number_), evaluation in sorted(results.evaluations.items())
        if number_ == round_ and arm in evaluation.arms
    ]
    pooled = np.concatenate(values) if values else np.zeros(0)
    finite: np.ndarray = pooled[np.isfinite(pooled)]
    return finite


def _draw_shift_row(panels: list[Axes], env: EnvResults, method: MethodNumbers) -> None:
    contexts = (
        ("train_offline", OFFLINE, "offline context"),
        ("train_matched", OWN, "own exploration"),
    )
    rounds = [0, method.rounds[-1]] if method.adapted else [0]
    pooled = np.concatenate([_kl_values(env, method, r, a) for r in rounds for a, _, _ in contexts])
    # The tallest tail may hold a thousandth of the values; it shares the last bin.
    edges = np.histogram_bin_edges(np.clip(pooled, None, np.quantile(pooled, 0.995)), 28)
    for axes, round_ in zip(panels, rounds, strict=False):
        for arm, shade, name in contexts:
            values = np.clip(_kl_values(env, method, round_, arm), edges[0], edges[-1])
            share = 100.0 * np.histogram(values, edges)[0] / max(len(values), 1)
            axes.stairs(share, edges, fill=True, color=shade, alpha=0.65, label=name)
            axes.axvline(float(mean(values)), color=shade, linewidth=1.6, linestyle="--")
        when = "after the offline phase" if round_ == 0 else f"after round {round_}"
        axes.set_title(f"KL {when}", **_PLAIN)
        axes.set(xlabel="KL(q(z | context) ‖ prior), nats", ylabel="% of contexts")
    top = max(axes.get_ylim()[1] for axes in panels[:-1])
    for axes in panels[:-1]:
        axes.set_ylim(0, 1.05 * top)
    _draw_shift_returns(panels[-1], method, rounds)


def _draw_shift_returns(axes: Axes, method: MethodNumbers, rounds: list[int]) -> None:
    """Bars with intervals: return under each context, before and after."""
    for offset, (quantity, shade) in enumerate(
        (("offline_context_return", OFFLINE), ("own_context_return", OWN))
    ):
        for place, round_ in enumerate(rounds):
            value = method.at.get((round_, quantity))
            if value is None:
                continue
            x = place + 0.4 * (offset - 0.5)
            axes.bar(x, value.mean, 0.36, color=shade, alpha=0.85)
            if value.known:
                reach = [[value.mean - value.low], [value.high - value.mean]]
                axes.errorbar(x, value.mean, reach, color=TEXT, capsize=3, linewidth=1.2)
            end = min(value.low, value.mean) if value.mean < 0 else max(value.high, value.mean)
            axes.annotate(
                number(value.mean),
                (x, end if np.isfinite(end) else value.mean),
                xytext=(0, -4 if value.mean < 0 else 4),
                textcoords="offset points",
                ha="center",
                va="top" if value.mean < 0 else "bottom",
                fontsize=9,
            )
    names = ["offline phase", *(f"after round {r}" for r in rounds[1:])]
    axes.set_xticks(range(len(rounds)), names)
    axes.grid(visible=False, axis="x")
    axes.axhline(0, color=TEXT, linewidth=0.8)
    axes.margins(y=0.15)
    axes.set_title("return under each context", **_PLAIN)
    axes.set_xlim(-0.7, len(rounds) - 0.3)
    axes.set_ylabel("return, training tasks")


def episode_means(env: EnvResults, name: str, round_: int) -> np.ndarray:
    """Average the return of every episode of the meta-episode over seeds, tasks and repeats.

    Args:
        env: What was read.
        name: The method.
        round_: The round.

    Returns:
        ``[E]``; nan where no meta-episode went so far; empty when nothing was evaluated.
    """
    method = next(m for m in env.methods if m.name == name)
    returns = [
        evaluation.arms["test_online"]["episode_return"]
        for (_, number_), evaluation in sorted(method.evaluations.items())
        if number_ == round_ and "test_online" in evaluation.arms
    ]
    if not returns:
        return np.zeros(0)
    width = max(r.shape[2] for r in returns)
    padded = [
        np.pad(r, ((0, 0), (0, 0), (0, width - r.shape[2])), constant_values=np.nan)
        for r in returns
    ]
    return mean(np.concatenate(padded), axis=(0, 1))


def draw_episodes(results: Results, numbers: Numbers) -> Figure | None:
    """Draw the return of every episode of the meta-episode, before and after.

    Args:
        results: What was read.
        numbers: What was computed.

    Returns:
        The figure; None: nothing was evaluated.
    """
    envs = [env for env in results.envs if any(m.rounds for m in numbers.methods[env.name])]
    if not envs:
        return None
    many = max(len(env.methods) for env in envs) > _FEW
    figure, panels = grid(len(envs), 2, 4.6 if many else 3.4)
    for env, axes in zip(envs, panels, strict=True):
        _draw_episodes(axes, env, numbers, many=many)
        for floor, interval in numbers.floors[env.name].items():
            if floor == "nothing_return":  # gives the scale
                axes.axhline(interval.mean, color=FLOOR, linestyle="--", linewidth=1.2, zorder=1)
                axes.plot([], [], "--", color=FLOOR, linewidth=1.2, label=FLOORS[floor])
        axes.set(title=env.name, xlabel="episode of the meta-episode", ylabel="mean return")
        longest = max(len(episode_means(env, m.name, 0)) for m in numbers.methods[env.name])
        axes.set_xticks(range(1, longest + 1) if longest <= 12 else range(1, longest + 1, 5))
        axes.margins(x=0.08, y=0.1)
    legend_below(figure, panels, 3)
    return figure


def _draw_episodes(axes: Axes, env: EnvResults, numbers: Numbers, *, many: bool) -> None:
    """Draw a line a method before and after; of many methods, the last round alone."""
    for place, method in enumerate(numbers.methods[env.name]):
        shared = env.methods[place].offline_of in {m.name for m in env.methods[:place]}
        rounds = list(dict.fromkeys((0, *method.rounds[-1:])))
        for round_ in rounds[-1:] if many else rounds:
            if shared and round_ == 0 and not many:
                continue  # the same checkpoint as the other method's
            means = episode_means(env, method.name, round_)
            later = round_ > 0
            when = "last round" if later else "offline phase"
            axes.plot(
                np.arange(1, len(means) + 1),
                means,
                "-" if later else ":",
                color=colour(place),
                marker=marker(place),
                markerfacecolor=colour(place) if later else "white",
                label=method.label if many else f"{method.label}, {when}",
            )
