"""Stage ``report``: one self-contained page, its figures, and a table of every number."""

from __future__ import annotations

import argparse
import dataclasses
import time
from pathlib import Path

from pipeline import config as cf
from pipeline.cli import stage_main, stage_parser
from pipeline.dag import RESOLVING, code_digest
from pipeline.files import atomic_path, lock, require_writable, write_text
from pipeline.manifest import write_manifest
from pipeline.report_comparison import compare
from pipeline.report_comparison_page import Findings
from pipeline.report_comparison_tables import comparison_rows, csv_text, improvement_rows
from pipeline.report_costs import cost_rows, costs
from pipeline.report_data import load_results
from pipeline.report_figures import draw_figures
from pipeline.report_numbers import summarise, summary_csv
from pipeline.report_orderings import orderings
from pipeline.report_page import page

_TABLES = ("summary", "comparison", "improvement", "costs")


def make_parser() -> argparse.ArgumentParser:
    """Describe the arguments."""
    return stage_parser("report", "Draw and write up the results of a run.", ("results",))


def run(args: argparse.Namespace) -> None:
    """Write the report, ``figures/`` and its tables beside it.

    Args:
        args: Parsed arguments.
    """
    started = time.monotonic()
    preset = cf.read_run(args.config)
    config: cf.ReportConfig = cf.stage_config(preset, "report")
    folder: Path = args.out.parent
    require_writable(folder)
    with lock(folder):
        results = load_results(preset, args.results)
        numbers = summarise(results, config)
        outputs = {
            "report": args.out,
            **{name: folder / f"{name}.csv" for name in _TABLES},
            "figures": folder / "figures",
        }
        findings = Findings(compare(results, numbers), orderings(results, numbers), costs(results))
        write_text(outputs["summary"], summary_csv(numbers))
        for name, rows in (
            ("comparison", comparison_rows(results, config)),
            ("improvement", improvement_rows(findings.comparison)),
            ("costs", cost_rows(findings.costs)),
        ):
            write_text(outputs[name], csv_text(rows))
        with atomic_path(outputs["figures"]) as pictures:
            pictures.mkdir()
            figures = draw_figures(results, numbers, findings.comparison, pictures)
            videos = {}
            if config.video_frames:
                from pipeline.report_video import (  # noqa: PLC0415 - what acts is slow to import
                    make_videos,
                )

                videos = make_videos(results, config, pictures)
        write_text(args.out, page(results, numbers, findings, figures, videos))
        write_manifest(
            folder / "manifest.json",
            stage="report",
            config={"run": dataclasses.asdict(preset), "section": dataclasses.asdict(config)},
            seed=None,
            # As the Snakefile counts it: how the run resolves decides what is read.
            code_digest=code_digest("pipeline.report", RESOLVING),
            inputs=results.read,
            outputs=outputs,
            started=started,
            extra={"missing": [dataclasses.asdict(it) for it in results.missing]},
        )


if __name__ == "__main__":
    stage_main(run, make_parser())
