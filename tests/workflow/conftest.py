"""A copy of the workflow whose stages only write files: the DAG is real, the work is not."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PLUMBING = [
    "Snakefile",
    "pipeline/common.smk",
    "pipeline/experts.smk",
    "pipeline/report.smk",
    *(f"pipeline/{name}.py" for name in ("__init__", "config", "layers", "sections", "strict")),
    *(f"pipeline/{name}.py" for name in ("methods", "preset_checks", "resolved_run", "launch")),
    *(f"pipeline/{name}.py" for name in ("dag", "groups", "imports")),
    *(f"smac_core/{name}.py" for name in ("__init__", "config", "errors")),
]
# The fake stages reach these kernels, over one module of smac_core, as the real ones do.
REACHES = {
    "tasks": "",
    "collect": "import smac_core.acting",
    "experts": "import smac_core.acting",
    "demonstrations": "import smac_core.acting",
    "meta_train": "from kernels import sample",
    "rollout": "import smac_core.acting",
    "relabel": "from kernels.relabel import decode",
    "finetune": "from kernels import sample",
    "evaluate": "import smac_core.acting",
    "report": "",
    "study": "",
    "verify": "",
}
FAKE_STAGE = '''
"""Writes every output of a stage."""
import argparse
import pathlib
import sys

MANY_SEEDS = {many_seeds}


def main(argv):
    """Runs."""
    {reach}
    parser = argparse.ArgumentParser()
    for name in "config env method round results".split():
        parser.add_argument(f"--{{name}}")
    for name in "seed tasks transitions checkpoint rollout rollouts rewards out".split():
        parser.add_argument(f"--{{name}}", nargs="*", default=[])
    options = parser.parse_args(argv)
    for name in "tasks transitions checkpoint rollout rollouts rewards".split():
        for path in getattr(options, name):
            assert pathlib.Path(path).exists(), path
    assert len(options.out) == max(1, len(options.seed))
    assert MANY_SEEDS or len(options.out) == 1
    for out in options.out:
        write(argv, options, pathlib.Path(out))


def write(argv, options, out):
    """Writes the outputs of a seed."""
    if out.suffix == ".zarr":
        out.mkdir(parents=True, exist_ok=True)
        (out / "zarr.json").write_text(" ".join(argv))
    else:
        out.write_text(" ".join(argv))
    own = dict(tasks="tasks.manifest.json", study="study.manifest.json")
    manifest = own.get(out.stem, "manifest.json")
    tables = ("summary.csv", "comparison.csv", "improvement.csv", "costs.csv", "study-arms.csv")
    for name in (manifest, "metrics.csv", *tables):
        out.with_name(name).write_text(options.config or "")
    out.with_name("figures").mkdir(exist_ok=True)


if __name__ == "__main__":
    main(sys.argv[1:])
'''


@dataclass
class Tree:
    """A checkout and the folder it runs in."""

    root: Path

    def snakemake(self, *arguments: str, fails: bool = False) -> str:
        """Runs Snakemake in the checkout and returns what it says."""
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        done = subprocess.run(
            [sys.executable, "-m", "snakemake", "--nocolor", *arguments],
            cwd=self.root,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        said = done.stdout + done.stderr
        assert (done.returncode != 0) == fails, said
        return said

    def would_run(self, *arguments: str) -> dict[str, int]:
        """Counts the jobs that Snakemake would run, by rule, without `all`."""
        said = self.snakemake("--dry-run", *arguments)
        rules = re.findall(r"^(?:local)?rule (\w+):", said, re.MULTILINE)
        return {rule: rules.count(rule) for rule in sorted(set(rules) - {"all"})}

    def edit(self, path: str, old: str, new: str) -> None:
        """Replaces text in a file of the checkout."""
        file = self.root / path
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))


PRESET = """
envs: [point-robot]
methods: [smac, oracle, meta-bc]
seeds: [0, 1]
rounds: 2
"""


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def make_tree(root: Path) -> Tree:
    """Writes the checkout with fake stages."""
    for name in PLUMBING:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, root / name)
    shutil.copytree(ROOT / "config", root / "config")
    _write(root / "config/config.yaml", PRESET)
    for stage, reach in REACHES.items():
        seeded = stage not in {"tasks", "collect", "report", "study", "verify"}
        text = FAKE_STAGE.format(reach=reach, many_seeds=seeded)
        _write(root / f"pipeline/{stage}.py", text)
    _write(root / "smac_core/acting.py", "from kernels.policy import act\n")
    _write(root / "smac_core/smac_agent.py", "from smac_core.acting import act\n")
    _write(root / "smac_core/envs/__init__.py", "")
    for env in ("point_robot", "cheetah_vel"):
        _write(root / f"smac_core/envs/{env}.py", "HORIZON = 20  # steps\n")
    _write(root / "kernels/__init__.py", "")
    _write(root / "kernels/policy.py", '"""Acts."""\n\n\ndef act():\n    return 1\n')
    _write(root / "kernels/relabel.py", "def decode():\n    return 1\n")
    _write(root / "kernels/sample.py", "from kernels import stream\n")
    _write(root / "kernels/stream.py", "WORD = 1\n")
    return Tree(root)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    tree = make_tree(tmp_path_factory.mktemp("finished"))
    tree.snakemake("--cores", "2")
    return tree


@pytest.fixture
def tree(finished: Tree, tmp_path: Path) -> Tree:
    """A copy of a finished run, file times included."""
    shutil.copytree(finished.root, tmp_path / "tree", copy_function=shutil.copy2)
    return Tree(tmp_path / "tree")


@pytest.fixture
def fresh(tmp_path: Path) -> Callable[[], Tree]:
    """A checkout in which nothing ran."""
    return lambda: make_tree(tmp_path / "fresh")
