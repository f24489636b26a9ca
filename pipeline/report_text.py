"""The sentences of the report, made from its numbers: nothing is claimed that was not computed."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from pipeline.intervals import Interval
from pipeline.report_data import EnvResults
from pipeline.report_numbers import MethodNumbers, Numbers
from pipeline.report_quantities import FALL_RATE, FLOORS, in_words, measured

FEW_SEEDS = 4  # the paper's number; below it the spread over seeds is hardly known


def number(value: float, *, sign: bool = False) -> str:
    """Write a number for people, with about three digits.

    Args:
        value: Any number.
        sign: Whether a plus is shown.

    Returns:
        Text with a true minus sign; a dash for nan.
    """
    if not math.isfinite(value):
        return "–"
    size = abs(value)
    digits = 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 1 else 3
    text = f"{value:{'+' if sign else ''},.{digits}f}"
    if size and float(text.replace(",", "")) == 0.0:
        text = f"{value:{'+' if sign else ''}.1e}"
    return text.replace("-", "−")


def ends(interval: Interval, *, sign: bool = False) -> str:
    """Write the two ends of an interval.

    Args:
        interval: The interval.
        sign: Whether pluses are shown.

    Returns:
        Text such as "[−330, −305]"; empty when there is none.
    """
    if not interval.known:
        return ""
    return f"[{number(interval.low, sign=sign)}, {number(interval.high, sign=sign)}]"


def written(interval: Interval | None, *, sign: bool = False) -> str:
    """Write mean and interval.

    Args:
        interval: The interval; None: not measured.
        sign: Whether pluses are shown.

    Returns:
        Text such as "−317 [−330, −305]"; a dash when not measured.
    """
    if interval is None:
        return "–"
    return f"{number(interval.mean, sign=sign)} {ends(interval, sign=sign)}".strip()


def percent(share: float) -> str:
    """Write a share in percent.

    Args:
        share: 1 is all.

    Returns:
        Text.
    """
    return f"{100 * share:.0f}".replace("-", "−") + " %"


def plural(count: int, noun: str) -> str:
    """Write a count.

    Args:
        count: How many.
        noun: In the singular.

    Returns:
        Text such as "2 seeds".
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def verdict(change: Interval | None) -> str:
    """Tell in a word what became of a return.

    Args:
        change: Interval of the difference; None: there is none.

    Returns:
        "rose", "fell", "unclear", or a dash.
    """
    if change is None:
        return "–"
    if change.includes_zero:
        return "unclear"
    return "rose" if change.mean > 0 else "fell"


def moved(change: Interval) -> str:
    """Say how a return changed, and whether that can be told from zero.

    Args:
        change: Interval of the difference.

    Returns:
        A clause such as "rose by 63.1 [50.2, 71.9]".
    """
    if not change.known:
        return f"changed by {number(change.mean, sign=True)}; a single value has no interval"
    if change.includes_zero:
        return f"changed by {written(change, sign=True)}; the interval includes zero"
    sign = 1.0 if change.mean > 0 else -1.0
    low, high = sorted((sign * change.low, sign * change.high))
    return f"{verdict(change)} by {number(abs(change.mean))} [{number(low)}, {number(high)}]"


def sample(numbers: Numbers, env: str, quantity: str = "test_return") -> str:
    """Say how much stands behind the intervals of an environment.

    Args:
        numbers: All numbers.
        env: The environment.
        quantity: Whose tasks are counted.

    Returns:
        A sentence.
    """
    known = [
        interval
        for method in numbers.methods[env]
        for (_, name), interval in method.at.items()
        if name == quantity
    ]
    if not known:
        return f"{env}: nothing was evaluated."
    seeds, tasks = max(i.num_seeds for i in known), max(i.num_tasks for i in known)
    text = (
        f"{env}: {plural(seeds, 'seed')}, {plural(tasks, 'task')}; intervals hold "
        f"{percent(numbers.config.confidence)} of {numbers.config.bootstrap_samples:,} bootstrap "
        "means over seeds and tasks."
    )
    if seeds == 1:
        text += " One seed: the intervals tell nothing of the spread over seeds."
    elif seeds < FEW_SEEDS:
        text += f" {seeds} seeds say little of how the next one would do."
    return text


def adaptation(method: MethodNumbers) -> str:
    """Say what the self-supervised phase did to a method's return on held-out tasks.

    Args:
        method: Its numbers.

    Returns:
        A sentence.
    """
    before, change = method.before("test_return"), method.change.get("test_return")
    if before is None:
        return f"{method.label}: not evaluated after the offline phase."
    if change is None:
        lacks = "has no self-supervised phase" if not method.online else "no round was evaluated"
        return f"{method.label}: {written(before)} after the offline phase; {lacks}."
    after = method.after("test_return")
    steps = method.steps[method.rounds[-1]]
    each = ", ".join(number(value, sign=True) for value in method.seed_changes("test_return"))
    told = f"by seed: {each}" if change.num_seeds > 1 else "one seed"
    text = (
        f"{method.label} {moved(change)}: from {written(before)} to {written(after)} after "
        f"{plural(method.rounds[-1], 'round')} and {steps:,.0f} environment steps"
    )
    return f"{text} ({told})."


def above(method: MethodNumbers) -> str:
    """Say how a method's return on held-out tasks compares with the better floor.

    Args:
        method: Its numbers.

    Returns:
        A sentence, or nothing.
    """
    parts = []
    for round_ in dict.fromkeys((0, *method.rounds[-1:])):
        value = method.above.get(round_)
        if value is None or not np.isfinite(value.mean):
            continue
        when = "after the offline phase" if round_ == 0 else "after the last round"
        if value.includes_zero:
            parts.append(f"not told apart from it {when} ({written(value, sign=True)})")
        else:
            side = "above" if value.mean > 0 else "below"
            parts.append(f"{side} it {when} ({written(value, sign=True)})")
    return f"Against the better floor, {FLOORS[method.floor]}: {', '.join(parts)}." if parts else ""


def floors(numbers: Numbers, env: str) -> str:
    """Say where the floors of an environment are.

    Args:
        numbers: All numbers.
        env: The environment.

    Returns:
        A sentence, or nothing.
    """
    known = [f"{FLOORS[f]} {number(i.mean)}" for f, i in numbers.floors[env].items()]
    return f"Floors: {', '.join(known)}." if known else ""


def _amount(name: str, units: Mapping[str, str], value: Interval) -> str:
    return percent(value.mean) if name == FALL_RATE else f"{number(value.mean)} {units[name]}"


def physical_meaning(env: EnvResults, method: MethodNumbers) -> str:
    """Say what a method's returns on held-out tasks are physically, before and after.

    Args:
        env: What was read.
        method: Its numbers.

    Returns:
        Text such as "SMAC: forward velocity 0.31 m/s → 0.84 m/s, falls 40 % → 5 %."; empty when
        nothing was measured.
    """
    parts = []
    for name in measured(env):
        pair = [method.before(f"test_{name}"), method.after(f"test_{name}")]
        told = [_amount(name, env.definition.measure_units, value) for value in pair if value]
        words = "falls" if name == FALL_RATE else in_words(name)
        if told:
            parts.append(f"{words} {' → '.join(told)}")
    return f"{method.label}: {', '.join(parts)}." if parts else ""


def gap_closed(method: MethodNumbers) -> str:
    """Say in a cell of a table what became of the KL gap; a share needs a gap to be a share of.

    Args:
        method: Its numbers.

    Returns:
        Text such as "57 %", "widened, +0.100 → −3.10" or "no gap to close, +0.020" (nats).
    """
    before, after = method.before("kl_gap"), method.after("kl_gap")
    if before is None or after is None:
        return "–"
    closed = method.gap_closed
    if closed is None:
        return f"no gap to close, {number(before.mean, sign=True)}"
    if closed < 0:
        return f"widened, {number(before.mean, sign=True)} → {number(after.mean, sign=True)}"
    return percent(closed)


def shift(method: MethodNumbers) -> str:
    """Say how far own contexts are from offline ones, before and after.

    Args:
        method: Its numbers.

    Returns:
        A sentence.
    """
    before, after = method.before("kl_gap"), method.after("kl_gap")
    if before is None:
        return f"{method.label}: no posterior was measured."
    text = (
        f"{method.label}: contexts of the agent's own exploration have a posterior KL "
        f"{number(abs(before.mean))} nats {'above' if before.mean > 0 else 'below'} that of "
        f"offline contexts after the offline phase {ends(before, sign=True)}"
    )
    if after is None:
        return text + "."
    text += f", and {written(after, sign=True)} after the last round"
    closed = method.gap_closed
    if closed is None:
        return text + "; the first interval includes zero, so there was no gap to close."
    if closed < 0:
        return f"{text}: the gap widened by {number(abs(after.mean) - abs(before.mean))} nats."
    return f"{text}: {percent(closed)} of the gap was closed."


def shift_returns(method: MethodNumbers) -> str:
    """Say which context gives the higher return, before and after.

    Args:
        method: Its numbers.

    Returns:
        A sentence, or nothing.
    """
    parts = []
    for when, get in (("before", method.before), ("after", method.after)):
        own, offline = get("own_context_return"), get("offline_context_return")
        if own is not None and offline is not None:
            parts.append(
                f"{when}, {written(own)} under own and {written(offline)} under offline contexts"
            )
    return f"Its return on training tasks: {'; '.join(parts)}." if parts else ""


def learning(env: EnvResults) -> str:
    """Say what the collector learned while it collected.

    Args:
        env: What was read of the environment.

    Returns:
        A sentence; nothing when there is no learning curve.
    """
    metrics = env.collection_metrics
    if "test_return" not in metrics:
        return ""
    known = np.flatnonzero(np.isfinite(metrics["test_return"]))
    if len(known) == 0:
        return ""
    curve, steps = metrics["test_return"][known], metrics["environment_steps"][known]
    return (
        f"{env.name}: the collector's return on held-out tasks went from {number(curve[0])} to "
        f"{number(curve[-1])} (best {number(curve.max())}) in {plural(len(curve), 'point')} over "
        f"{steps[-1]:,.0f} environment steps, with true rewards and one seed."
    )


def episodes(method: MethodNumbers, before: np.ndarray, after: np.ndarray | None) -> str:
    """Say what a method gains within a meta-episode.

    Args:
        method: Its numbers.
        before: ``[E]`` mean return of each episode after the offline phase.
        after: The same after the last round; None: there was none.

    Returns:
        A sentence.
    """

    def gain(returns: np.ndarray) -> str:
        known = returns[np.isfinite(returns)]
        return f"{number(known[0])} to {number(known[-1])}" if len(known) else "–"

    text = f"{method.label} goes from {gain(before)} from the first episode to the last"
    if after is None:
        return f"{text} after the offline phase."
    return f"{text} before, and from {gain(after)} after self-supervision."


def scripted_success(env: str, rates: Mapping[str, float]) -> str:
    """Say how often the scripted data achieve the rewarded behaviour.

    Args:
        env: Name of the environment.
        rates: ``success`` of the collection's manifest.

    Returns:
        A sentence.
    """
    parts = [f"{percent(rates[key])} of {name}" for key, name in _RATES.items()]
    return (
        f"{env}: each behaviour, by its script. The rewarded one, which the scripts do not know, "
        f"is achieved in {', '.join(parts)} (published: {percent(rates['published'])})."
    )


_RATES = {
    "per_transition": "transitions",
    "final_step": "final steps",
    "any_step": "episodes at some step",
}
