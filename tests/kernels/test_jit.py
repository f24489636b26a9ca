"""The cache of compiled code: its key, its place, and processes that share it."""

import importlib
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from numba.core.dispatcher import Dispatcher

from kernels import _jit
from kernels.mlp import mlp_forward

ROOT = Path(__file__).resolve().parents[2]
MODULES = ["mlp", "mujoco_step", "policy", "posterior", "random", "relabel", "returns", "sample"]
USE = """
import numpy as np
from kernels.returns import episode_returns
out = np.empty(1)
episode_returns(np.array([1, 2], np.float32), np.array([2]), out)
print(*out, sum(episode_returns.stats.cache_hits.values()))
"""


def start(cache: Path, root: Path = ROOT, code: str = USE, **more: str) -> subprocess.Popen:
    environment = os.environ | {"SMAC_CACHE_DIR": str(cache), "PYTHONPATH": str(root)} | more
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cache.parent,
    )


def output(process: subprocess.Popen) -> list[str]:
    out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "")
    return out.split()


def copy_package(target: Path) -> Path:
    shutil.copytree(
        ROOT / "kernels", target / "kernels", ignore=shutil.ignore_patterns("__pycache__")
    )
    return target


def boundary_kernels() -> list[Dispatcher]:
    """All functions that Python calls, which are those with a signature."""
    modules = [importlib.import_module(f"kernels.{name}") for name in MODULES]
    found = {f for m in modules for f in vars(m).values() if isinstance(f, Dispatcher)}
    return sorted(
        (f for f in found if f.signatures and not f._can_compile), key=lambda f: f.__name__
    )


def test_every_kernel_releases_the_gil_and_has_one_signature():
    kernels = boundary_kernels()
    assert len(kernels) >= 13
    for kernel in kernels:
        assert kernel.targetoptions["nogil"], kernel
        assert len(kernel.signatures) == 1, kernel


def test_other_threads_run_during_a_kernel():
    sizes = np.array([300, 300, 300, 300, 300], dtype=np.int64)
    params = np.zeros(4 * 301 * 300, dtype=np.float32)
    x = np.zeros((30_000, 300), dtype=np.float32)
    thread = threading.Thread(target=mlp_forward, args=(params, sizes, x, x.copy()))
    thread.start()
    turns = 0
    while thread.is_alive():
        time.sleep(0.001)
        turns += 1
    assert turns > 5


def test_second_process_reads_what_the_first_compiled(tmp_path):
    cache = tmp_path / "cache"
    assert output(start(cache)) == ["3.0", "0"]
    assert output(start(cache)) == ["3.0", "1"]
    assert list(cache.glob("smac-kernels/*/**/*.nbc"))


def test_two_processes_that_start_at_once(tmp_path):
    cache = tmp_path / "cache"
    both = [start(cache), start(cache)]
    assert [output(p)[0] for p in both] == ["3.0", "3.0"]
    assert output(start(cache)) == ["3.0", "1"]


def test_an_edit_of_another_kernel_file_is_not_served_stale_code(tmp_path):
    root, cache = copy_package(tmp_path / "tree"), tmp_path / "cache"
    assert output(start(cache, root))[1] == "0"
    with (root / "kernels" / "mlp.py").open("a") as file:
        file.write("\n# an edit\n")
    assert output(start(cache, root))[1] == "0"
    assert len(list(cache.glob("smac-kernels/*"))) == 2


def test_read_only_sources(tmp_path):
    root, cache = copy_package(tmp_path / "tree"), tmp_path / "cache"
    for path in [*(root / "kernels").iterdir(), root / "kernels"]:
        path.chmod(path.stat().st_mode & ~0o222)
    assert output(start(cache, root, PYTHONDONTWRITEBYTECODE="1"))[0] == "3.0"
    assert not (root / "kernels" / "__pycache__").exists()


def test_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    code = USE + "from kernels import _jit; print(_jit.config.CACHE_DIR)"
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    unusable = tmp_path / "file"
    results = [output(start(unusable, code=code, TMPDIR=str(scratch))) for _ in range(2)]
    assert [r[:2] for r in results] == [["3.0", "0"], ["3.0", "1"]]
    assert results[0][2].startswith(str(scratch))


@pytest.mark.parametrize("mode", [0o777, 0o750])
def test_a_shared_temporary_folder_is_not_trusted(tmp_path, monkeypatch, mode):
    (tmp_path / "file").touch()
    monkeypatch.setattr(_jit.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(_jit.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("SMAC_CACHE_DIR", str(tmp_path / "file"))
    planted = tmp_path / f"smac-kernels-{os.getuid()}"
    planted.mkdir()
    planted.chmod(mode)
    assert planted not in _jit.cache_folder().parents
    planted.chmod(0o700)
    assert planted in _jit.cache_folder().parents


def test_folder_follows_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("SMAC_CACHE_DIR", str(tmp_path / "a"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "b"))
    digest = _jit.source_digest()
    assert _jit.cache_folder() == tmp_path / "a" / "smac-kernels" / digest
    monkeypatch.delenv("SMAC_CACHE_DIR")
    assert _jit.cache_folder() == tmp_path / "b" / "smac-kernels" / digest
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert _jit.cache_folder() == tmp_path / ".cache" / "smac-kernels" / digest


def test_digest_sees_names_and_contents(tmp_path):
    (tmp_path / "a.py").write_text("x = 1\n")
    first = _jit.source_digest(tmp_path)
    assert first == _jit.source_digest(tmp_path)
    (tmp_path / "a.py").write_text("x = 2\n")
    second = _jit.source_digest(tmp_path)
    (tmp_path / "a.py").rename(tmp_path / "b.py")
    assert len({first, second, _jit.source_digest(tmp_path)}) == 3
