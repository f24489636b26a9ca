"""Tables and figures of `docs/results/gmps.md`: what GMPS and its rivals reach, and at what cost.

`python -m pipeline.gmps_results --results results/gmps results/gmps-sawyer --out docs/results`
gathers tables from finished runs and draws them; rows of environments and methods that did not run
there stay as the tables have them, so that presets can be added one by one. Without `--results` it
draws the tables that are there.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from pipeline import report_style as style
from pipeline.cli import Parser, stage_main
from pipeline.files import write_text
from pipeline.gmps_factors import FACTORS, HEAD, factor_rows
from pipeline.gmps_figures import draw_episodes, draw_steps, draw_success
from pipeline.gmps_tables import ADAPTED, HEADS, OUTCOMES, STEPS, Rows, gather, read_table
from pipeline.report_comparison_tables import csv_text


def make_parser() -> argparse.ArgumentParser:
    """Describe the arguments."""
    parser = Parser("python -m pipeline.gmps_results", description="Draw what GMPS reaches.")
    told = "folders of finished runs, of one preset each"
    parser.add_argument("--results", type=Path, nargs="+", default=None, help=told)
    parser.add_argument("--out", type=Path, required=True, help="folder of tables and figures")
    return parser


def kept(path: Path, rows: Rows) -> Rows:
    """Read what a table has of other environments and methods.

    Args:
        path: The table, which need not be there.
        rows: Of what ran.

    Returns:
        The other rows.
    """
    if not path.is_file():
        return []
    ran = {_order(row) for row in rows}
    head = HEADS[path.name]
    old: Rows = [[row[column] for column in head] for row in read_table(path, head)]
    return [row for row in old if _order(row) not in ran]


def _order(row: list[object]) -> tuple[str, str]:
    return str(row[0]), str(row[1])


def run(args: argparse.Namespace) -> None:
    """Gather where there are results, and draw.

    Args:
        args: Parsed arguments.
    """
    if args.results is not None:
        for name, rows in gather(args.results).items():
            whole = kept(args.out / name, rows) + rows
            write_text(args.out / name, csv_text([HEADS[name], *sorted(whole, key=_order)]))
    tables = {name: read_table(args.out / name, head) for name, head in HEADS.items()}
    write_text(args.out / FACTORS, csv_text([HEAD, *factor_rows(tables[STEPS])]))
    with style.styled():
        draw_episodes(tables[ADAPTED], tables[OUTCOMES], args.out)
        draw_success(tables[OUTCOMES], args.out)
        draw_steps(tables[STEPS], args.out)


if __name__ == "__main__":
    stage_main(run, make_parser())
