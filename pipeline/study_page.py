"""The study's page: figures, verdicts and tables from study.csv, beside prose written by hand.

`python -m pipeline.study_page --csv docs/results/study.csv --out docs/results` trains nothing.
What stands between `<!-- begin NAME -->` and `<!-- end NAME -->` in study.md is made anew; all
else stays as it is.
"""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from pipeline.cli import Parser, stage_main
from pipeline.files import require_writable, write_text
from pipeline.report_text import number, percent, written
from pipeline.study_arm_figures import by_question
from pipeline.study_figures import draw_study
from pipeline.study_table import CHANGE, SHARE, Study, StudyArm, read_study
from pipeline.study_verdicts import (
    GAP,
    MATCHED,
    OFFLINE,
    ORACLE,
    TEST_OWN,
    TRAIN_OWN,
    collapsed,
    verdicts,
)
from smac_core.errors import StoreError

PAGE, DEFAULT_ARM = "study.md", "smac"
_BLOCK = re.compile(r"(<!-- begin ([a-z-]+) -->\n).*?(<!-- end \2 -->)", re.DOTALL)
_SKELETON = """# What decides whether self-supervision closes the context shift

<!-- begin figures -->
<!-- end figures -->

## The bars

<!-- begin bars -->
<!-- end bars -->

## Every arm

<!-- begin arms -->
<!-- end arms -->

## How it ran

<!-- begin run -->
<!-- end run -->
"""


def make_parser() -> argparse.ArgumentParser:
    """Describe the arguments."""
    parser = Parser("python -m pipeline.study_page", description="Draw and write up a study.")
    parser.add_argument("--csv", type=Path, required=True, help="study.csv of the stage study")
    parser.add_argument("--out", type=Path, required=True, help="folder of study.md and figures")
    return parser


def run(args: argparse.Namespace) -> None:
    """Write the figures, and the generated parts of the page.

    Args:
        args: Parsed arguments.
    """
    study = read_study(args.csv)
    require_writable(args.out)
    page = args.out / PAGE
    text = page.read_text(encoding="utf-8") if page.exists() else _SKELETON
    figures = draw_study(study, args.out, wanted(text))
    write_text(page, fill(text, blocks(study, figures), page))


def wanted(text: str) -> set[str] | None:
    """Tell which figures a page shows.

    Args:
        text: The page.

    Returns:
        Their files without ``.png``, or ``None`` where it shows all that there are.
    """
    parts = {match[2] for match in _BLOCK.finditer(text)}
    return None if "figures" in parts else parts


def fill(text: str, made: Mapping[str, str], where: object) -> str:
    """Put generated parts in the place of the old ones.

    Args:
        text: The page.
        made: Parts by name.
        where: The page, for the message.

    Returns:
        The page.

    Raises:
        StoreError: The page has a part that nothing makes.
    """

    def replaced(match: re.Match[str]) -> str:
        if match[2] not in made:
            raise StoreError(
                "nothing makes this part", where=where, expected=", ".join(made), found=match[2]
            )
        return f"{match[1]}{made[match[2]]}{match[3]}"

    return _BLOCK.sub(replaced, text)


def blocks(study: Study, figures: Mapping[str, str]) -> dict[str, str]:
    """Write all generated parts.

    Args:
        study: All rows.
        figures: What each figure shows, by its file.

    Returns:
        Markdown by name; beside the four of a new page, one a figure.
    """
    pictures = {name: f"![{alt}]({name})\n\n*{alt}.*\n" for name, alt in figures.items()}
    return {
        "figures": "\n".join(pictures.values()),
        "bars": _bars(study),
        "arms": _arms(study),
        "run": _run(study),
        **{name.removesuffix(".png"): text for name, text in pictures.items()},
    }


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Write a table in Markdown.

    Args:
        head: Names of the columns.
        rows: Cells.

    Returns:
        The table.
    """
    names = list(head)
    lines = [names, ["---"] * len(names), *(list(row) for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _bars(study: Study) -> str:
    rows = []
    for base in study.bases:
        arm = study.find(base, DEFAULT_ARM)
        if arm is not None and arm.rounds:
            rows += [(base, it.bar, it.found, f"**{it.verdict}**") for it in verdicts(study, arm)]
    note = (
        "Held-out tasks, mean over seeds, 95 % stratified bootstrap intervals (tasks are strata, "
        "seeds and repeats are drawn); the gap is measured on training tasks, which have offline "
        "data. A share holds where its whole interval is above one half. A seed has collapsed "
        "where it ends below its return after the offline phase by more than the standard "
        "deviation of the latter over seeds, or below doing nothing.\n\n"
    )
    return note + table(("environment", "bar", "found", "verdict"), rows)


def _arms(study: Study) -> str:
    parts = []
    for base in study.bases:
        arms = study.of(base)
        parts.append(f"### {base}\n\n{_returns(study, arms)}\n{_diagnosis(study, arms)}")
    return "\n".join(parts)


def _returns(study: Study, arms: list[StudyArm]) -> str:
    head = (
        *("arm", "differs", "before", "after", "change", "of the oracle's"),
        *("gap before", "gap after", "collapsed"),
    )
    rows = []
    for question, group in by_question(arms):
        if question:
            rows.append([f"*{question}*", *[""] * (len(head) - 1)])
        for arm in group:
            share = None if arm.name == ORACLE else study.interval(arm, SHARE, TEST_OWN)
            last = arm.rounds if arm.rounds else None
            rows.append(
                [
                    arm.title,
                    f"`{arm.settings}`" if arm.settings else "",
                    written(study.interval(arm, 0, TEST_OWN)),
                    written(study.interval(arm, last, TEST_OWN)) if last else "",
                    written(study.interval(arm, CHANGE, TEST_OWN), sign=True) if last else "",
                    percent(share.mean) if share else "",
                    written(study.interval(arm, 0, GAP), sign=True),
                    written(study.interval(arm, last, GAP), sign=True) if last else "",
                    _counted(study, arm) if last else "",
                ]
            )
    return table(head, rows)


def _counted(study: Study, arm: StudyArm) -> str:
    """Say how many seeds collapsed; an arm's last round may lack a seed."""
    if not np.isfinite(study.by_seed(arm, arm.rounds, TEST_OWN)).all():
        return "not measured"
    down = collapsed(study, arm)
    return f"{len(down)} of {len(study.seeds)}" if down else "none"


def _diagnosis(study: Study, arms: list[StudyArm]) -> str:
    """Write before → after of everything that was measured beside returns."""
    head = (
        *("arm", "KL own", "KL offline", "decoder error: offline", "exploration", "adapted"),
        *("min Q − realised, own", "weights' sample size", "coverage", "novelty"),
    )
    rows = []
    for arm in arms:
        adapted = [
            _pair(study, arm, TRAIN_OWN, f"{name}_decoder_mse", root=True)
            for name in ("offline", "exploration", "adapted")
        ]
        rows.append(
            [
                arm.title,
                _pair(study, arm, MATCHED, "posterior_kl"),
                _pair(study, arm, OFFLINE, "posterior_kl"),
                *adapted,
                _excess(study, arm),
                _pair(study, arm, TRAIN_OWN, "effective_sample_size"),
                _pair(study, arm, TRAIN_OWN, "coverage"),
                _pair(study, arm, TRAIN_OWN, "novelty"),
            ]
        )
    return table(head, rows)


def _pair(
    study: Study, arm: StudyArm, where: tuple[str, str], column: str, *, root: bool = False
) -> str:
    found = [study.mean(arm, n, where, column) for n in dict.fromkeys((0, arm.rounds))]
    values = [math.sqrt(value) if root else value for value in found]
    return _arrow(values)


def _excess(study: Study, arm: StudyArm) -> str:
    return _arrow(
        [
            study.mean(arm, n, MATCHED, "start_value")
            - study.mean(arm, n, MATCHED, "discounted_return")
            for n in dict.fromkeys((0, arm.rounds))
        ]
    )


def _arrow(values: Iterable[float]) -> str:
    known = [number(value) for value in values if math.isfinite(value)]
    return " → ".join(known)


def _run(study: Study) -> str:
    versions = " / ".join(dict.fromkeys(arm.versions for arm in study.arms if arm.versions))
    return (
        f"Seeds {', '.join(map(str, study.seeds))}; {versions or 'versions not recorded'}. Every "
        "number is in [study.csv](study.csv), what the arms are in "
        "[study-arms.csv](study-arms.csv).\n"
    )


if __name__ == "__main__":
    stage_main(run, make_parser())
