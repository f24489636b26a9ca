"""The tables of the report's page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from pipeline.intervals import Interval
from pipeline.report_data import EnvResults, Results
from pipeline.report_numbers import MethodNumbers, Numbers
from pipeline.report_quantities import FALL_RATE, FLOORS, in_words, measured
from pipeline.report_text import gap_closed, number, percent, verdict, written
from pipeline.report_times import StageTime

_STAGES = ("tasks", "collect", "meta_train", "rollout", "relabel", "finetune", "evaluate")


def table(
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    words: int = 1,
    note: str = "",
    groups: Sequence[tuple[str, int]] = (),
) -> str:
    """Write a table.

    Args:
        head: Names of the columns.
        rows: Cells as plain text.
        words: How many columns hold words; the others are numbers, and align right.
        note: What stands above it.
        groups: Names above columns, and over how many; then intervals stand below their means.

    Returns:
        HTML.
    """

    def line(tag: str, cells: Sequence[str]) -> str:
        parts = []
        for place, cell in enumerate(cells):
            kind = "" if place < words else ' class="n"'
            known = f' class="n {cell}"' if cell in {"rose", "fell", "unclear"} else kind
            text = escape(cell)
            if groups and text.endswith("]"):
                text = text.replace(" [", "<small>[") + "</small>"
            parts.append(f"<{tag}{known}>{text}</{tag}>")
        return f"<tr>{''.join(parts)}</tr>"

    caption = f"<caption>{escape(note)}</caption>" if note else ""
    above = "".join(f'<th class="group" colspan="{n}">{escape(g)}</th>' for g, n in groups)
    body = "".join(line("td", row) for row in rows)
    return (
        f'<div class="wide"><table>{caption}<thead><tr>{above}</tr>{line("th", head)}</thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def conclusion(numbers: Numbers) -> str:
    """Write the table at the top: what the self-supervised phase did, per environment and method.

    Args:
        numbers: All numbers.

    Returns:
        HTML.
    """
    rows = []
    for method in numbers:
        change = method.change.get("test_return")
        each = [number(v, sign=True) for v in method.seed_changes("test_return")]
        rows.append(
            (
                method.env,
                method.label,
                written(method.before("test_return")),
                written(method.after("test_return")),
                written(change, sign=True),
                ", ".join(each) or "–",
                verdict(change),
                gap_closed(method),
            )
        )
    head = ("environment", "method", "offline phase", "after self-supervision", "change")
    return table((*head, "change by seed", "", "KL gap closed, or nats"), rows, words=2)


def returns_table(env: EnvResults, numbers: Numbers) -> str:
    """Write the returns of an environment.

    Args:
        env: What was read.
        numbers: All numbers.

    Returns:
        HTML.
    """
    rows = [
        (
            method.label,
            written(method.before("test_return")),
            written(method.after("test_return")),
            written(method.change.get("test_return"), sign=True),
            written(method.before("test_prior_return")),
            written(method.after("test_prior_return")),
            written(method.before("train_return")),
            written(method.after("train_return")),
            written(method.above.get(0), sign=True),
            written(method.above.get(method.rounds[-1]) if method.adapted else None, sign=True),
        )
        for method in numbers.methods[env.name]
    ]
    for floor, interval in numbers.floors[env.name].items():
        rows.append((f"floor: {FLOORS[floor]}", written(interval), *("",) * 8))
    pair = ("before", "after")
    head = ("", *pair, "change", *pair, *pair, *pair)
    groups = (("", 1), ("test tasks", 3), ("test tasks, no adaptation", 2), ("train tasks", 2))
    note = f"{env.name}: mean return, and its interval below it"
    out = table(head, rows, note=note, groups=(*groups, ("above the better floor", 2)))
    return out + (_counts_table(env, numbers) if env.can_end_early else "")


def _counts_table(env: EnvResults, numbers: Numbers) -> str:
    """Write both counts of the meta-test, which part where episodes end early."""
    quantities = ("test_episodes_return", "test_transitions_return")
    rows = [
        (m.label, *(written(value) for q in quantities for value in (m.before(q), m.after(q))))
        for m in numbers.methods[env.name]
    ]
    return table(
        ("", *("before", "after") * 2),
        rows,
        groups=(("", 1), ("so many episodes", 2), ("so many transitions", 2)),
        note=f"{env.name}: return on test tasks by both counts; the released code's is the second",
    )


def physical_table(env: EnvResults, numbers: Numbers) -> str:
    """Write what the returns of an environment are physically: a return alone does not tell.

    Args:
        env: What was read.
        numbers: All numbers.

    Returns:
        HTML.
    """
    names = measured(env)

    def cell(name: str, value: Interval | None) -> str:
        if value is None or name != FALL_RATE:
            return written(value)
        spread = f" [{percent(value.low)}, {percent(value.high)}]" if value.known else ""
        return percent(value.mean) + spread

    rows = []
    for method in numbers.methods[env.name]:
        cells = [written(method.before("test_return")), written(method.after("test_return"))]
        for name in names:
            quantity = f"test_{name}"
            cells += [cell(name, method.before(quantity)), cell(name, method.after(quantity))]
        rows.append((method.label, *cells))
    for floor, interval in numbers.floors[env.name].items():
        cells = [written(interval), ""]
        for name in names:
            quantity = f"{floor.removesuffix('_return')}_{name}"
            known = [m.before(quantity) for m in numbers.methods[env.name] if m.before(quantity)]
            cells += [cell(name, known[0] if known else None), ""]
        rows.append((f"floor: {FLOORS[floor]}", *cells))
    units = env.definition.measure_units
    titles = [
        "episodes that fell" if n == FALL_RATE else f"{in_words(n)}, {units[n]}" for n in names
    ]
    return table(
        ("", *("before", "after") * (1 + len(names))),
        rows,
        groups=(("", 1), ("return", 2), *((title, 2) for title in titles)),
        note=f"{env.name}: what the returns on held-out tasks are physically, last episode",
    )


def _pair(method: MethodNumbers, quantity: str) -> str:
    before, after = method.before(quantity), method.after(quantity)
    text = "–" if before is None else number(before.mean)
    return text if after is None else f"{text} → {number(after.mean)}"


def model_table(env: EnvResults, numbers: Numbers) -> str:
    """Write the decoder's errors and the context shift of an environment.

    Args:
        env: What was read.
        numbers: All numbers.

    Returns:
        HTML.
    """
    rows = []
    for method in numbers.methods[env.name]:
        rows.append(
            (
                method.label,
                _pair(method, "offline_decoder_mse"),
                _pair(method, "train_decoder_mse"),
                _pair(method, "test_decoder_mse"),
                written(method.before("kl_gap"), sign=True),
                written(method.after("kl_gap"), sign=True),
                gap_closed(method),
            )
        )
    return table(
        ("", "offline data", "train tasks", "test tasks", "before", "after", "closed, or nats"),
        rows,
        groups=(("", 1), ("squared error of decoded rewards", 3), ("KL gap, nats", 3)),
        note=f"{env.name}: reward decoder, before → after, and context shift",
    )


def sources_table(env: EnvResults) -> str:
    """Write what the offline data of an environment are.

    Args:
        env: What was read.

    Returns:
        HTML; a sentence when the record of the collection is missing.
    """
    sources = (env.collection or {}).get("sources")
    if not isinstance(sources, dict):
        return f"<p>{escape(env.name)}: the collection left no record.</p>"
    assert env.collection is not None
    rows = [
        (
            name,
            f"{row['episodes']:,}",
            f"{row['transitions']:,}",
            number(row["mean_return"]),
            number(row["mean_length"]),
        )
        for name, row in sorted(sources.items())
    ]
    note = f"{env.name}: collected by policy “{env.collection.get('policy')}”"
    return table(
        ("source", "episodes", "transitions", "mean return", "mean length, steps"), rows, note=note
    )


def _stage_order(time: StageTime) -> int:
    return _STAGES.index(time.stage) if time.stage in _STAGES else len(_STAGES)


def times_table(results: Results) -> str:
    """Write what every stage took.

    Args:
        results: What was read.

    Returns:
        HTML.
    """
    rows = []
    for env in [e.name for e in results.envs]:
        mine = sorted((t for t in results.times if t.env == env), key=_stage_order)
        for stage in dict.fromkeys(t.stage for t in mine):
            these = [t for t in mine if t.stage == stage]
            rows.append((env, stage, *_row_of(these)))
    rows.append(("all", "", *_row_of(results.times)))
    head = ("jobs", "seconds in all", "longest, s", "peak memory, MiB", "device")
    return table(("environment", "stage", *head), rows, words=2)


def _row_of(times: Sequence[StageTime]) -> tuple[str, ...]:
    return (
        f"{len(times):,}",
        f"{sum(t.seconds for t in times):,.1f}",
        f"{max((t.seconds for t in times), default=0.0):,.1f}",
        f"{max((t.memory for t in times), default=0.0):,.0f}",
        ", ".join(sorted({t.device for t in times})),
    )
