"""The repository agrees with itself: names, documents, contracts, tables."""

from __future__ import annotations

import dataclasses
import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from pipeline import schema
from pipeline.sections import SOURCES, STAGES
from pipeline.sections_gmps import GmpsTrainConfig
from pipeline.sections_maml import MamlTrainConfig
from smac_core import visits

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("kernels", "smac_core", "pipeline")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
DEVIATIONS = (ROOT / "docs/deviations.md").read_text()
SOURCE_FILES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_are_those_of_this_checkout(package):
    # `kernels` and `pipeline` are names on PyPI, too.
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin == str(ROOT / package / "__init__.py")


def test_packages_are_those_of_this_checkout_for_a_job_elsewhere(tmp_path):
    for package in PACKAGES:
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("raise RuntimeError('not ours')\n")
    from pipeline.launch import job_environment

    code = f"import {', '.join(PACKAGES)}; print(*(m.__file__ for m in ({', '.join(PACKAGES)})))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=job_environment(ROOT, {}),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [str(ROOT / package / "__init__.py") for package in PACKAGES]


def test_the_distribution_has_every_package():
    found = {
        path.parent.relative_to(ROOT).as_posix().replace("/", ".")
        for path in SOURCE_FILES
        if path.name == "__init__.py"
    }
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == found


def test_every_dependency_has_one_exact_version():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {line.split("==")[0].lower() for line in lines if "==" in line}
    extras = PROJECT["project"]["optional-dependencies"]
    for text in [*PROJECT["project"]["dependencies"], *extras["dev"]]:
        name = re.match(r"[A-Za-z0-9_.-]+", text)
        assert name is not None
        assert name.group().lower() in pinned
    assert "torch==2.13.0" in lines


def deviations() -> list[tuple[str, str, str]]:
    """Reads id, key and default from every row of the table."""
    rows = re.findall(r"^\| (D\d+) \|.*\| `([a-z_.]+)` \| (\S+) \|$", DEVIATIONS, re.MULTILINE)
    assert len(rows) == DEVIATIONS.count("\n| D")
    return rows


def test_deviations_are_numbered():
    rows = deviations()
    assert [number for number, _, _ in rows] == [f"D{n}" for n in range(1, len(rows) + 1)]


@pytest.mark.parametrize(("number", "key", "here"), deviations())
def test_a_deviation_is_a_key_with_this_default(number, key, here):
    stage, *path = key.split(".")
    value = STAGES[stage]()
    for name in path:
        assert name in {field.name for field in dataclasses.fields(value)}
        value = getattr(value, name)
    assert str(value) == here


@pytest.mark.parametrize(
    ("letter", "num", "section"), [("M", 9, MamlTrainConfig()), ("G", 4, GmpsTrainConfig())]
)
def test_the_deviations_of_a_method_are_keys_with_these_defaults(letter, num, section):
    pattern = rf"^\| ({letter}\d+) \|.*\| `([a-z_.]+)` \| (.+?) \|$"
    rows = re.findall(pattern, DEVIATIONS, re.MULTILINE)
    assert [number for number, _, _ in rows] == [f"{letter}{n}" for n in range(1, num + 1)]
    for _, key, here in rows:
        part, name = key.split(".")
        assert str(getattr(getattr(section, part), name)) == here


def test_the_code_points_at_deviations_that_exist():
    known = {number for number, _, _ in deviations()}
    for path in SOURCE_FILES:
        text = path.read_text()
        named = set(re.findall(r"deviations\.md#(D\d+)", text))
        named |= set(re.findall(r"# (D\d+):", text))
        assert named <= known, path


def test_a_stage_is_independent_of_the_others():
    contracts = PROJECT["tool"]["importlinter"]["contracts"]
    (independent,) = (set(c["modules"]) for c in contracts if c["type"] == "independence")
    assert independent == {f"pipeline.{stage}" for stage in STAGES}
    assert all((ROOT / "pipeline" / f"{stage}.py").is_file() for stage in STAGES)
    (layers,) = (c["layers"] for c in contracts if c["type"] == "layers")
    assert layers == ["pipeline", "smac_core", "kernels"]


def test_the_codes_of_sources_agree():
    sources = schema.EPISODE_SOURCES
    assert (sources["prior"], sources["posterior"]) == (visits.PRIOR, visits.POSTERIOR)
    assert tuple(sorted(sources, key=sources.__getitem__)) == SOURCES


def test_the_snakefile_is_short():
    assert len((ROOT / "Snakefile").read_text().splitlines()) <= 200


def test_every_rule_of_a_stage_has_the_same_parts():
    files = ("Snakefile", "pipeline/experts.smk", "pipeline/report.smk")
    text = "".join((ROOT / file).read_text() + "\n\n" for file in files)
    head = r'^(?:rule (\w+)|for group in plan\.groups\("(\w+)"\)):\n(.*?)(?=^\S|\Z)'
    found = re.findall(head, text, re.MULTILINE | re.DOTALL)
    rules = {plain or grouped: (bool(grouped), body) for plain, grouped, body in found}
    parts = ["output", "log", "benchmark", "conda", "resources", "params", "shell"]
    for stage in STAGES:
        grouped, body = rules[stage]
        names = re.findall(rf"^{' ' * (8 if grouped else 4)}(\w+):", body, re.MULTILINE)
        assert [n for n in names if n != "input"] == ["name"] * grouped + parts, stage
        assert f'plan.params("{stage}"{", group" if grouped else ""})' in body


def test_packages_begin_with_a_docstring_only():
    for path in SOURCE_FILES:
        if path.name == "__init__.py":
            lines = path.read_text().splitlines()
            assert len(lines) == 1, path
            assert lines[0].startswith('"""'), path
