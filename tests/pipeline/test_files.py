"""Files are whole or absent, whatever happens to the writer or the disk."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from pipeline import files
from smac_core.errors import OutputError, StoreError

ROOT = Path(__file__).parents[2]


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def start(code: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, text=True, stdout=subprocess.PIPE
    )


def fail_with(number: int):
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


def test_atomic_path_writes_a_file_and_makes_its_folder(tmp_path: Path) -> None:
    with files.atomic_path(tmp_path / "a" / "b.txt") as temporary:
        assert temporary.parent == tmp_path / "a"
        temporary.write_text("whole")
        assert not (tmp_path / "a" / "b.txt").exists()
    assert (tmp_path / "a" / "b.txt").read_text() == "whole"
    assert names(tmp_path / "a") == ["b.txt"]


@pytest.mark.parametrize("old", ["file", "folder", "link", None])
@pytest.mark.parametrize("new", ["file", "folder"])
def test_atomic_path_replaces_whatever_stands_there(
    tmp_path: Path, old: str | None, new: str
) -> None:
    path = tmp_path / "out"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept").touch()
    if old == "file":
        path.write_text("old")
    elif old == "folder":
        (path / "deep").mkdir(parents=True)
    elif old == "link":
        path.symlink_to(elsewhere)
    with files.atomic_path(path) as temporary:
        if new == "folder":
            temporary.mkdir()
            (temporary / "new").touch()
        else:
            temporary.write_text("new")
    assert names(path) == ["new"] if new == "folder" else path.read_text() == "new"
    assert names(tmp_path) == ["elsewhere", "out"]
    assert names(elsewhere) == ["kept"]


def test_a_failure_keeps_the_old_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")

    def write_half() -> None:
        with files.atomic_path(tmp_path / "a") as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()
    assert (tmp_path / "a").read_text() == "old"
    assert names(tmp_path) == ["a"]


def test_content_reaches_the_disk_before_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    fsync, replace = os.fsync, os.replace

    def record_fsync(descriptor: int) -> None:
        events.append("sync " + Path(os.readlink(f"/proc/self/fd/{descriptor}")).name[:5])
        fsync(descriptor)

    def record_replace(source: Path, target: Path) -> None:
        events.append("replace")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(os, "replace", record_replace)
    files.write_text(tmp_path / "note", "text")
    assert events == ["sync .note", "replace", "sync " + tmp_path.name[:5]]


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (errno.ENOSPC, "no space left on the disk"),
        (errno.EDQUOT, "quota"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "no permission"),
        (errno.EPERM, "no permission"),
    ],
)
@pytest.mark.parametrize("call", ["mkdir", "write_bytes"])
def test_a_disk_that_refuses_gives_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, text: str, call: str
) -> None:
    monkeypatch.setattr(Path, call, fail_with(number))
    with pytest.raises(OutputError, match=text) as caught:
        files.write_json(tmp_path / "a.json", {})
    assert str(tmp_path / "a.json") in str(caught.value)
    assert "\n" not in str(caught.value)
    assert names(tmp_path) == []


def test_other_disk_errors_keep_their_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "write_bytes", fail_with(errno.EIO))
    with pytest.raises(OSError, match="Input/output"):
        files.write_text(tmp_path / "a", "")


def test_a_path_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "a.json", tmp_path / "file" / "deep" / "a.json"):
        with pytest.raises(OutputError, match="a file stands where a folder is needed"):
            files.write_json(path, {})
        with pytest.raises(OutputError, match="a file stands where a folder is needed"):
            files.require_writable(path.parent)
        with pytest.raises(OutputError, match="a file stands"), files.lock(path.parent):
            pass


def test_a_full_disk_leaves_the_old_file(full_disk: Path, tmp_path: Path) -> None:
    (full_disk / "a").write_bytes(b"old")
    with pytest.raises(OutputError, match="no space left on the disk"):
        files.write_bytes(full_disk / "a", bytes(1 << 20))
    assert (full_disk / "a").read_bytes() == b"old"
    assert names(full_disk) == ["a"]


def test_require_writable_makes_the_folder_and_leaves_nothing(tmp_path: Path) -> None:
    files.require_writable(tmp_path / "a" / "b")
    assert names(tmp_path / "a" / "b") == []


def test_require_writable_notices_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", fail_with(errno.ENOSPC))
    with pytest.raises(OutputError, match="no space"):
        files.require_writable(tmp_path)
    assert names(tmp_path) == []


def test_a_second_writer_is_refused_until_the_first_ends(tmp_path: Path) -> None:
    code = f"from pipeline import files\nwith files.lock({str(tmp_path)!r}):\n print(1,flush=True)"
    first = start(code + "\n import time; time.sleep(60)")
    try:
        assert first.stdout is not None
        assert first.stdout.readline() == "1\n"
        with pytest.raises(OutputError, match="another process is writing"), files.lock(tmp_path):
            pass
    finally:
        first.kill()
        first.communicate()
    with files.lock(tmp_path):
        pass


def test_lock_removes_what_killed_writers_left_and_nothing_else(tmp_path: Path) -> None:
    code = (
        "from pipeline import files\nimport time\n"
        f"with files.atomic_path({str(tmp_path / 'a.zarr')!r}) as p:\n"
        "  p.mkdir(); (p / 'half').touch(); print(1, flush=True); time.sleep(60)"
    )
    writer = start(code)
    assert writer.stdout is not None
    assert writer.stdout.readline() == "1\n"
    writer.send_signal(signal.SIGKILL)
    writer.communicate()
    (tmp_path / ".hidden").touch()
    (tmp_path / "b.tmp-1-00000000").touch()
    left = [name for name in names(tmp_path) if name.startswith(".a.zarr.tmp-")]
    assert len(left) == 1
    assert not (tmp_path / "a.zarr").exists()
    with files.lock(tmp_path):
        assert names(tmp_path) == [".hidden", ".lock", "b.tmp-1-00000000"]


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP])
def test_a_file_system_without_locks_is_used_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(files.fcntl, "flock", fail_with(number))
    left = tmp_path / ".a.tmp-1-00000000"
    left.touch()
    with files.lock(tmp_path):
        # Without a lock another writer may still need it.
        assert left.exists()


def test_two_processes_replace_the_same_folder(tmp_path: Path) -> None:
    code = (
        "from pipeline import files\n"
        "for i in range(40):\n"
        f"  with files.atomic_path({str(tmp_path / 'a')!r}) as p: p.write_text('x' * 9999)"
    )
    writers = [start(code), start(code)]
    deadline = time.monotonic() + 60
    while any(writer.poll() is None for writer in writers) and time.monotonic() < deadline:
        if (tmp_path / "a").exists():
            assert len((tmp_path / "a").read_text()) == 9999
    assert [writer.wait() for writer in writers] == [0, 0]
    for writer in writers:
        writer.communicate()
    assert names(tmp_path) == ["a"]


@dataclasses.dataclass(frozen=True)
class Section:
    width: tuple[int, ...] = (3, 4)


def test_json_has_one_form() -> None:
    value = {"b": np.float32(0.5), "a": np.int64(3), "c": Section(), "d": Path("x/y")}
    expected = (
        b'{\n  "a": 3,\n  "b": 0.5,\n  "c": {\n    "width": [\n      3,\n      4\n    ]\n  },'
    )
    assert files.json_bytes(value) == expected + b'\n  "d": "x/y"\n}\n'
    assert files.json_bytes({"ä": 1}) == b'{\n  "\\u00e4": 1\n}\n'


@pytest.mark.parametrize("value", [float("nan"), float("inf"), np.float64("nan")])
def test_json_refuses_what_is_not_json(value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.json_bytes([value])
    with pytest.raises(TypeError, match="a set does not fit into JSON"):
        files.json_bytes({1, 2})


@pytest.mark.parametrize("text", ["", "{", '{"a": NaN}', "[" * 100_000, "\x00", "\xff"])
def test_read_json_names_the_damaged_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "tasks.json"
    path.write_bytes(text.encode("latin1"))
    with pytest.raises(StoreError, match="damaged") as caught:
        files.read_json(path, StoreError)
    assert f"snakemake --cores all --forcerun {path}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_read_json_names_the_missing_file(tmp_path: Path) -> None:
    for path in (tmp_path / "none.json", tmp_path, tmp_path / "none.json" / "a"):
        with pytest.raises(StoreError, match="there is no such file"):
            files.read_json(path, StoreError)


def test_rerun_quotes_the_path() -> None:
    assert files.rerun("a b;c").endswith("--forcerun 'a b;c'")


def test_every_byte_of_a_sealed_file_counts(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    files.write_json(path, files.seal({"a": 1, "b": [True, "x"]}))
    whole = path.read_bytes()
    assert files.read_exact_json(path, StoreError) == files.seal({"a": 1, "b": [True, "x"]})
    for position in range(len(whole)):
        for bit in range(8):
            changed = bytearray(whole)
            changed[position] ^= 1 << bit
            path.write_bytes(changed)
            try:
                document = files.read_exact_json(path, StoreError)
            except StoreError:
                continue
            assert document != files.seal(document), (position, bit)


def test_white_space_counts_too(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    files.write_json(path, {"a": 1})
    path.write_bytes(path.read_bytes().replace(b"{\n", b"{\t"))
    with pytest.raises(StoreError, match="changed after it was written"):
        files.read_exact_json(path, StoreError)


def test_sha256_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    # FIPS 180-2, appendix B.1
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert files.sha256_file(tmp_path / "a") == known == hashlib.sha256(b"abc").hexdigest()
