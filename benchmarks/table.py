"""How rows look on a terminal, and on what machine they were measured."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from benchmarks.measure import Row

PACKAGES = ("torch", "numpy", "numba", "mujoco", "gymnasium", "zarr", "snakemake")
_LINE = "{:<22} {:<30} {:>2} {:<7} {:>10} {:>10}  {:<16} {:>7} {:>6}  {}"


def header() -> str:
    """Return the table's first line."""
    return _LINE.format(
        "name", "size", "th", "device", "ours", "baseline", "unit", "ratio", "spread", "against"
    )


def format_row(row: Row) -> str:
    """Lay a row out.

    Args:
        row: What was measured.

    Returns:
        One line.
    """
    return _LINE.format(
        row.name,
        row.size,
        row.threads,
        row.device[:7],
        _number(row.ours),
        _number(row.baseline),
        row.unit,
        f"{row.ratio:.2f}x",
        f"{row.spread:.0%}",
        row.against,
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def describe_machine() -> dict[str, object]:
    """Describe where the measurement runs.

    Returns:
        Processor, cores that this process may use, load at the start, memory, GPU.
    """
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    fields = [line.partition(":") for line in lines]
    values = {key.strip(): value.strip() for key, _, value in reversed(fields)}
    flags = set(values.get("flags", "").split())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": values.get("model name", platform.processor()),
        "instructions": sorted(flags & {"avx2", "avx512f", "avx512_bf16", "amx_bf16"}),
        "cores": os.cpu_count(),
        "load_at_start": os.getloadavg()[0],
        "memory_gib": round(memory / 2**30, 1),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": platform.platform(),
    }


def versions() -> dict[str, str]:
    """Return the version of Python and of every package that matters here."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
