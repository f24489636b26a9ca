"""What every rule needs: the checked configuration, the environment of the jobs, path names."""

import os
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger
from snakemake.settings.types import SharedFSUsage
from snakemake.utils import min_version

min_version("9.19")
sys.path[:] = [str(workflow.basedir), *sys.path, os.getcwd()]

from pipeline.config import NAME, left_out
from pipeline.dag import Plan
from pipeline.launch import default_preset, job_environment, load_preset
from smac_core.errors import ConfigError

# Snakemake lays --configfile over this one key by key: a preset must not inherit the default's.
if not workflow.overwrite_configfiles:
    preset = Path(workflow.basedir, default_preset(sys.argv[1:])).absolute()

    configfile: preset

    if preset.name != "config.yaml":
        # Jobs are not told the target; they are told the preset, as if by --configfile.
        workflow.config_settings.configfiles = [preset]


try:
    run = load_preset(workflow.configfiles, config, workflow.config_settings.config)
    plan = Plan(
        run,
        shared_files=SharedFSUsage.INPUT_OUTPUT
        in workflow.storage_settings.shared_fs_usage,
    )
    plan.check()
    if plan.notice():
        logger.info(plan.notice())
    for name, needed in left_out(run).items():
        logger.info(f"{name} is left out: {needed} is not installed.")
except ConfigError as fault:
    raise WorkflowError(str(fault)) from None
os.environ.update(job_environment(workflow.basedir, os.environ))


wildcard_constraints:
    env=NAME.pattern,
    method=NAME.pattern,
    seed=r"0|[1-9][0-9]*",
    round=r"0|[1-9][0-9]*",


pathvars:
    results=run.results,
    logs=f"{run.results}/logs",
    benchmarks=f"{run.results}/benchmarks",


localrules:
    all,
    tasks,
    verify,
