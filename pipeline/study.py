"""Stage ``study``: every number of a study's arms in one small table, and what the arms are."""

from __future__ import annotations

import argparse
import dataclasses
import time
from pathlib import Path

from pipeline import config as cf
from pipeline.cli import stage_main, stage_parser
from pipeline.dag import RESOLVING, code_digest
from pipeline.files import lock, require_writable, write_text
from pipeline.manifest import write_manifest
from pipeline.report_comparison_tables import csv_text
from pipeline.report_data import load_results
from pipeline.study_rows import arm_rows, study_rows


def make_parser() -> argparse.ArgumentParser:
    """Describe the arguments."""
    return stage_parser("study", "Gather the numbers of every arm of a study.", ("results",))


def run(args: argparse.Namespace) -> None:
    """Write the table of numbers, and beside it ``study-arms.csv``.

    Args:
        args: Parsed arguments.
    """
    started = time.monotonic()
    preset = cf.read_run(args.config)
    config: cf.ReportConfig = cf.stage_config(preset, "report")
    out: Path = args.out
    require_writable(out.parent)
    with lock(out.parent):
        results = load_results(preset, args.results)
        outputs = {"study": out, "arms": out.with_name(f"{out.stem}-arms.csv")}
        write_text(outputs["study"], csv_text(study_rows(results, config)))
        write_text(outputs["arms"], csv_text(arm_rows(results)))
        write_manifest(
            out.with_name(f"{out.stem}.manifest.json"),
            stage="study",
            config={"run": dataclasses.asdict(preset), "section": dataclasses.asdict(config)},
            seed=None,
            code_digest=code_digest("pipeline.study", RESOLVING),
            inputs=results.read,
            outputs=outputs,
            started=started,
            extra={"missing": [dataclasses.asdict(it) for it in results.missing]},
        )


if __name__ == "__main__":
    stage_main(run, make_parser())
