"""The figures about behaviour, data and training."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.intervals import Interval
from pipeline.report_data import EnvResults
from pipeline.report_numbers import MethodNumbers
from pipeline.report_quantities import FLOORS
from pipeline.report_style import (
    FLOOR,
    TEXT,
    colour,
    grid,
    label_ends,
    legend_below,
    marker,
    thousands,
)

GOAL, VELOCITY = ("goal_x", "goal_y"), "target_velocity"


@dataclass(frozen=True)
class Paths:
    """The last episodes of one checkpoint on the held-out tasks.

    Args:
        title: Method and phase.
        place: Of the method in the run.
        seed: Seed of the method.
        tasks: ``[T, fields]`` parameters.
        path: ``[T, H, 2]`` positions (m); nan after the episode's end.
    """

    title: str
    place: int
    seed: int
    tasks: np.ndarray
    path: np.ndarray

    def final(self) -> np.ndarray:
        """Return ``[T, 2]`` the last positions."""
        last = self._count() - 1
        out: np.ndarray = self.path[np.arange(len(last)), last]
        return out

    def velocity(self, seconds: float) -> np.ndarray:
        """Return ``[T]`` the mean forward velocity, from the first position to the last (m/s).

        Args:
            seconds: Time between two positions (s).
        """
        moved = self.final()[:, 0].astype(np.float64) - self.path[:, 0, 0]
        steps = self._count() - 1
        out = np.full(len(moved), np.nan)
        np.divide(moved, steps * seconds, out=out, where=steps > 0)
        return out

    def _count(self) -> np.ndarray:
        count: np.ndarray = np.maximum(np.isfinite(self.path).all(axis=2).sum(axis=1), 1)
        return count


def find_paths(env: EnvResults, methods: list[MethodNumbers]) -> list[list[Paths]]:
    """Collect the paths of every checkpoint worth seeing: each method's first and last.

    Args:
        env: What was read.
        methods: Their numbers.

    Returns:
        Per checkpoint, one entry a seed. Round 0 of a method that shares another's is left out.
    """
    names = [m.name for m in methods]
    found = []
    for place, (method, numbers) in enumerate(zip(env.methods, methods, strict=True)):
        shared = method.offline_of != method.name and method.offline_of in names
        for round_ in dict.fromkeys((0, *numbers.rounds[-1:])):
            if round_ == 0 and shared:
                continue
            phase = "offline phase" if round_ == 0 else f"after round {round_}"
            seeds = _paths(env, place, round_, f"{method.label}, {phase}")
            if seeds:
                found.append(seeds)
    return found


def _paths(env: EnvResults, place: int, round_: int, title: str) -> list[Paths]:
    out = []
    for (seed, number), evaluation in sorted(env.methods[place].evaluations.items()):
        arm = evaluation.arms.get("test_online", {})
        if number == round_ and "final_path" in arm:
            tasks = env.tasks.parameters[arm["task_id"]]
            out.append(Paths(title, place, seed, tasks, arm["final_path"]))
    return out


def draw_paths(env: EnvResults, methods: list[MethodNumbers]) -> Figure | None:
    """Draw what the agent does on held-out tasks: velocities reached, or where it goes.

    Args:
        env: What was read.
        methods: Their numbers.

    Returns:
        The figure; None: no paths were kept.
    """
    checkpoints = find_paths(env, methods)
    if not checkpoints:
        return None
    by_velocity = VELOCITY in env.tasks.fields
    figure, panels = grid(len(checkpoints), 4 if len(checkpoints) > 3 else 3, 2.9)
    for axes, seeds in zip(panels, checkpoints, strict=True):
        if by_velocity:
            _draw_velocities(axes, env, seeds)
        else:
            _draw_routes(axes, env, seeds[0])
        label, _, phase = seeds[0].title.rpartition(", ")
        axes.set_title(f"{textwrap.fill(label, _LETTERS)},\n{phase}", fontsize=9.5)
    _share_limits(panels)
    if by_velocity:
        legend_below(figure, panels)
    return figure


def _share_limits(panels: list[Axes]) -> None:
    for get, put in (("get_xlim", "set_xlim"), ("get_ylim", "set_ylim")):
        limits = np.array([getattr(axes, get)() for axes in panels])
        for axes in panels:
            getattr(axes, put)(limits[:, 0].min(), limits[:, 1].max())


def _draw_velocities(axes: Axes, env: EnvResults, seeds: list[Paths]) -> None:
    target = env.tasks.fields.index(VELOCITY)
    reach = float(env.tasks.parameters[:, target].max())
    axes.plot([0, reach], [0, reach], color=FLOOR, linestyle="--", linewidth=1.2)
    for which, paths in enumerate(seeds):
        axes.plot(
            paths.tasks[:, target],
            paths.velocity(env.definition.control_seconds),
            marker(which),
            color=colour(paths.place),
            alpha=0.75,
            markersize=5,
            markerfacecolor="none" if which % 2 else colour(paths.place),
            label=f"seed {paths.seed}",
        )
    axes.set(xlabel="target velocity, m/s", ylabel="mean velocity, m/s")


def _draw_routes(axes: Axes, env: EnvResults, paths: Paths) -> None:
    goals = env.tasks.fields == GOAL
    ahead = env.definition.forward(paths.tasks)
    turned = np.arctan2(ahead[:, 1], ahead[:, 0])
    directed = not goals and np.ptp(turned) > 0
    order = turned if directed else paths.tasks[:, 0]
    span = 2.0 * np.pi if directed else float(np.ptp(order)) or 1.0
    # A circle of colours for directions: 0 and 360 degrees are one.
    colours = matplotlib.colormaps["hsv" if directed else "viridis"]
    shades = colours((order - order.min()) / span * 0.92)
    start = paths.path[0, 0]
    reach = float(np.nanmax(np.linalg.norm(paths.path - start, axis=2))) if directed else 0.0
    for task, shade in enumerate(shades):
        route = paths.path[task]
        if directed:  # where it should go
            asked = start + np.outer([1.04, 1.16], ahead[task] * reach)
            axes.plot(*asked.T, color=shade, linewidth=2.4)
        axes.plot(route[:, 0], route[:, 1], color=shade, linewidth=1.3, alpha=0.85)
        axes.plot(*paths.final()[task], "o", color=shade, markersize=3.5)
        if goals:
            axes.plot(*paths.tasks[task], "*", color=shade, markersize=11, markeredgecolor="white")
    axes.plot(*start, "+", color=TEXT, markersize=9, markeredgewidth=1.6)
    axes.set(xlabel="x, m", ylabel="y, m" if env.definition.seen_from_above else "height, m")
    if env.definition.seen_from_above:
        axes.set_aspect("equal")


def draw_collection(env: EnvResults, floors: Mapping[str, Interval]) -> Figure | None:
    """Draw the collector's learning curve.

    Args:
        env: What was read.
        floors: Returns of the floors on held-out tasks.

    Returns:
        The figure; None: the collector did not learn, or was never measured.
    """
    metrics = env.collection_metrics
    if not np.isfinite(metrics.get("test_return", np.zeros(0))).any():
        return None
    figure, (axes,) = grid(1, 1, 3.4, 7.5)
    labels = []
    for place, (name, label) in enumerate(
        (
            ("test_return", "held-out tasks, adapted"),
            ("test_prior_return", "held-out tasks, first episode"),
            ("collected_return", "episodes collected"),
        )
    ):
        known = np.flatnonzero(np.isfinite(metrics.get(name, np.zeros(0))))
        if len(known):
            steps, values = metrics["environment_steps"][known], metrics[name][known]
            axes.plot(steps, values, color=colour(place), marker=marker(place), markersize=4)
            labels.append((float(values[-1]), label, colour(place)))
    for floor, interval in floors.items():
        axes.axhline(interval.mean, color=FLOOR, linestyle="--", linewidth=1.2, zorder=1)
        labels.append((interval.mean, FLOORS[floor], FLOOR))
    policy = (env.collection or {}).get("policy", "collector")
    axes.set(title=f"{env.name}: {policy}", xlabel="environment steps with reward")
    axes.set_ylabel("mean return")
    thousands(axes)
    label_ends(axes, labels, 2.6)
    return figure


_LETTERS = 20  # of a line above a panel, four of which share the width
_LARGEST = "largest_own_action_value"
_CURVES = {
    "reward_loss": "reward decoder's loss",
    "posterior_kl": "posterior KL, nats",
    "critic_loss": "critics' loss",
    "effective_sample_size": "effective sample size of the weights (share)",
    _LARGEST: "largest |Q| at the policy's own actions",
}


def draw_training(env: EnvResults) -> Figure | None:
    """Draw what the learner logged, method by method and seed by seed.

    Args:
        env: What was read.

    Returns:
        The figure; None: nothing was logged.
    """
    tables = [
        t for m in env.methods for t in (*m.offline_metrics.values(), *m.online_metrics.values())
    ]
    names = [n for n in _CURVES if any(np.isfinite(t.get(n, np.zeros(0))).any() for t in tables)]
    if not names:
        return None
    figure, panels = grid(len(names), 2, 2.6)
    for name, axes in zip(names, panels, strict=True):
        _draw_metric(axes, env, name)
        axes.set_title(_CURVES[name], fontsize=10)
        axes.set_xlabel("updates")
        thousands(axes)
    legend_below(figure, panels)
    return figure


def _draw_metric(axes: Axes, env: EnvResults, name: str) -> None:
    lowest, highest = np.inf, -np.inf
    for place, method in enumerate(env.methods):
        for phase in (method.offline_metrics, method.online_metrics):
            for table in phase.values():
                known = np.isfinite(table.get(name, np.zeros(0)))
                if not known.any():
                    continue
                lowest = min(lowest, float(table[name][known].min()))
                highest = max(highest, float(table[name][known].max()))
                axes.plot(
                    table["update"][known],
                    table[name][known],
                    color=colour(place),
                    linewidth=1.3,
                    alpha=0.8,
                    label=method.label,
                    marker="." if known.sum() < 3 else "",
                )
    starts = {
        float(table["update"].max())
        for method in env.methods
        for table in method.offline_metrics.values()
        if len(table.get("update", ())) and any(m.online_metrics for m in env.methods)
    }
    for start in starts:
        axes.axvline(start, color=FLOOR, linestyle=":", linewidth=1.2)
    if (name.endswith("_loss") or name == _LARGEST) and 0 < 10 * lowest < highest:
        axes.set_yscale("log")
    if name == "effective_sample_size":
        axes.set_ylim(min(0.9, lowest - 0.02), 1.01)  # else rounding errors fill the panel


def draw_pictures(env: EnvResults) -> Figure | None:
    """Draw what the tasks are about: a row of pictures for each behaviour.

    Args:
        env: What was read.

    Returns:
        The figure; None: this environment has no pictures.
    """
    pictures = env.definition.pictures()
    if not pictures:
        return None
    count = max(len(strip) for strip in pictures.values())
    figure, panels = grid(count * len(pictures), count, 1.35)
    for axes in panels:
        axes.set_axis_off()
    for row, (name, strip) in enumerate(pictures.items()):
        for axes, picture in zip(panels[row * count :], strip, strict=False):
            axes.imshow(picture)
        panels[row * count].set_title(name, loc="left", fontsize="small")
    return figure
