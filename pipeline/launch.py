"""How Snakemake was started: which preset, what its config says, what its jobs find."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.config import load_run
from pipeline.sections import RunConfig
from pipeline.strict import deep_merge, read_yaml, retype


def default_preset(words: Sequence[str]) -> str:
    """Chooses the preset of a run without `--configfile`.

    Args:
        words: The command line, which Snakemake has read when it parses the Snakefile, but does not
            tell.

    Returns:
        A file below the folder of the Snakefile: that of the target `study`, or the default.
    """
    from snakemake.cli import get_argument_parser  # noqa: PLC0415 - only Snakemake has it loaded

    with contextlib.redirect_stderr(io.StringIO()):
        try:
            targets = get_argument_parser().parse_known_args(words)[0].targets
        except SystemExit:  # whoever called Snakemake has a command line of another kind
            targets = []
    return "config/study.yaml" if "study" in targets else "config/config.yaml"


def load_preset(
    files: Sequence[Path], merged: Mapping[str, Any], command_line: Mapping[str, Any]
) -> RunConfig:
    """Checks what Snakemake made of its config files and of `--config`.

    Args:
        files: The config files, read again here: Snakemake lets a key stand twice.
        merged: The whole as Snakemake has it.
        command_line: What `--config` gave, where Snakemake leaves the numbers in lists as text.

    Returns:
        The run.

    Raises:
        ConfigError: The first fault found.
    """
    for file in files:
        read_yaml(file)
    names = [os.path.relpath(file) for file in files] + ["--config"] * bool(command_line)
    return load_run(deep_merge(merged, retype(command_line)), " + ".join(names))


def job_environment(root: object, environment: Mapping[str, str]) -> dict[str, str]:
    """Makes every job find this checkout, this Python, and one core.

    Args:
        root: Folder of the Snakefile.
        environment: The variables that Snakemake was started with.

    Returns:
        The variables to set.
    """
    # Safe path: a folder `pipeline` where the run happens must not hide ours. It comes last.
    folders = [str(root), environment.get("PYTHONPATH", ""), os.getcwd()]
    programs = [os.path.dirname(sys.executable), environment.get("PATH", "")]
    one = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
    return {
        "PATH": os.pathsep.join(filter(None, programs)),
        "PYTHONPATH": os.pathsep.join(filter(None, folders)),
        "PYTHONSAFEPATH": "1",
        **dict.fromkeys(one, "1"),  # two jobs side by side use two cores
    }
