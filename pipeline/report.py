"""Stage ``report``: one self-contained page, its figures, and a table of every number."""

from __future__ import annotations

import argparse
import dataclasses
import time
from pathlib import Path

from pipeline import config as cf
from pipeline.cli import stage_main, stage_parser
from pipeline.dag import code_digest
from pipeline.files import atomic_path, lock, require_writable, write_text
from pipeline.manifest import write_manifest
from pipeline.report_data import load_results
from pipeline.report_figures import draw_figures
from pipeline.report_numbers import summarise, summary_csv
from pipeline.report_page import page
from pipeline.report_video import make_videos


def make_parser() -> argparse.ArgumentParser:
    """Describe the arguments."""
    return stage_parser("report", "Draw and write up the results of a run.", ("results",))


def run(args: argparse.Namespace) -> None:
    """Write the report, ``figures/`` and ``summary.csv`` beside it.

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
            "summary": folder / "summary.csv",
            "figures": folder / "figures",
        }
        write_text(outputs["summary"], summary_csv(numbers))
        with atomic_path(outputs["figures"]) as pictures:
            pictures.mkdir()
            figures = draw_figures(results, numbers, pictures)
            videos = make_videos(results, config, pictures)
        write_text(args.out, page(results, numbers, figures, videos))
        write_manifest(
            folder / "manifest.json",
            stage="report",
            config={"run": dataclasses.asdict(preset), "section": dataclasses.asdict(config)},
            seed=None,
            # As the Snakefile counts it: how the run resolves decides what is read.
            code_digest=code_digest("pipeline.report", ("pipeline.config", "pipeline.dag")),
            inputs=results.read,
            outputs=outputs,
            started=started,
            extra={"missing": [dataclasses.asdict(it) for it in results.missing]},
        )


if __name__ == "__main__":
    stage_main(run, make_parser())
