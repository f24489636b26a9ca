"""The tables of the report's page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from pipeline.report_data import EnvResults, Results, StageTime
from pipeline.report_numbers import FLOORS, MethodNumbers, Numbers
from pipeline.report_text import number, percent, verdict, written

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
        closed = method.gap_closed
        rows.append(
            (
                method.env,
                method.label,
                written(method.before("test_return")),
                written(method.after("test_return")),
                written(change, sign=True),
                ", ".join(each) or "–",
                verdict(change),
                "–" if closed is None else percent(closed),
            )
        )
    head = ("environment", "method", "offline phase", "after self-supervision", "change")
    return table((*head, "change by seed", "", "KL gap closed"), rows, words=2)


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
    return table(head, rows, note=note, groups=(*groups, ("above the better floor", 2)))


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
        closed = method.gap_closed
        rows.append(
            (
                method.label,
                _pair(method, "offline_decoder_mse"),
                _pair(method, "train_decoder_mse"),
                _pair(method, "test_decoder_mse"),
                written(method.before("kl_gap"), sign=True),
                written(method.after("kl_gap"), sign=True),
                "–" if closed is None else percent(closed),
            )
        )
    return table(
        ("", "offline data", "train tasks", "test tasks", "before", "after", "closed"),
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
