"""Files that are either whole or absent: temporary sibling, fsync, rename; sealed JSON; locks."""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import hashlib
import json
import os
import re
import secrets
import shlex
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

from smac_core.errors import OutputError, SmacError

_TEMPORARY = re.compile(r"\..+\.tmp-\d+-[0-9a-f]{8}(-old)?")
_NO_SPACE = "free some space, or put the results on another disk"
_NO_ACCESS = "make the folder writable, or run with --directory elsewhere"
_OUTPUT_FAULTS = {
    errno.ENOSPC: ("no space left on the disk", _NO_SPACE),
    errno.EDQUOT: ("the disk quota is used up", _NO_SPACE),
    errno.EROFS: ("the file system is read-only", _NO_ACCESS),
    errno.EACCES: ("no permission to write", _NO_ACCESS),
    errno.EPERM: ("no permission to write", _NO_ACCESS),
    errno.ENOTDIR: ("a file stands where a folder is needed", "remove it, or give another path"),
    errno.EEXIST: ("a file stands where a folder is needed", "remove it, or give another path"),
}


def output_error(error: OSError, path: object = None) -> OutputError | None:
    """Tells a full disk or a forbidden folder as one line.

    Args:
        error: What the operating system said.
        path: The output being written; the error's own file name when None.

    Returns:
        The OutputError, or None when the error is of another sort and keeps its traceback.
    """
    if error.errno not in _OUTPUT_FAULTS:
        return None
    what, fix = _OUTPUT_FAULTS[error.errno]
    return OutputError(what, where=error.filename if path is None else path, fix=fix)


def _raise_output(error: OSError, path: Path) -> NoReturn:
    told = output_error(error, path)
    raise (error if told is None else told) from error


def remove(path: Path) -> None:
    """Removes a file, a link or a whole folder; absent is fine.

    Args:
        path: What to remove.
    """
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_tree(path: Path) -> None:
    for folder, _, names in os.walk(path):
        for name in names:
            _sync(Path(folder, name))
        _sync(Path(folder))
    if not path.is_dir():
        _sync(path)


def _replace(temporary: Path, path: Path) -> None:
    if not path.is_dir() and not (temporary.is_dir() and path.exists()):
        os.replace(temporary, path)
        return
    # rename(2) does not replace a folder that holds files: the old one steps aside first. A kill
    # between the two renames leaves no output, never a mixed one.
    old = temporary.with_name(temporary.name + "-old")
    os.rename(path, old)
    os.rename(temporary, path)
    remove(old)


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Gives a temporary sibling to write a file or a folder to, then renames it onto the path.

    Args:
        path: The final path; a file or folder that stands there is replaced.

    Yields:
        The temporary path, which does not exist yet.

    Raises:
        OutputError: No space, no permission, or a read-only file system.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}-{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        _sync_tree(temporary)
        _replace(temporary, path)
        _sync(path.parent)
    except OSError as error:
        _raise_output(error, path)
    finally:
        # A folder that went read-only must not hide the first error behind that of the clean-up.
        try:
            remove(temporary)
        except OSError as error:
            if output_error(error) is None:
                raise


def _plain(value: object) -> object:
    """Turns what json does not know into what it does: paths, dataclasses, NumPy scalars."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    item = getattr(value, "item", None)
    if callable(item):
        return item()
    raise TypeError(f"a {type(value).__name__} does not fit into JSON")


def json_bytes(value: object) -> bytes:
    """Writes JSON in the one form that this project uses: sorted keys, two spaces, no NaN.

    Args:
        value: Anything made of JSON types, dataclasses, paths and NumPy scalars.

    Returns:
        The text as ASCII bytes with a final newline.
    """
    text = json.dumps(value, sort_keys=True, indent=2, allow_nan=False, default=_plain)
    return text.encode("ascii") + b"\n"


def write_bytes(path: Path | str, data: bytes) -> None:
    """Writes a file whole or not at all.

    Args:
        path: The file; its folder is made.
        data: The content.

    Raises:
        OutputError: No space, no permission, or a read-only file system.
    """
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path | str, text: str) -> None:
    """Writes a UTF-8 text file whole or not at all.

    Args:
        path: The file; its folder is made.
        text: The content.

    Raises:
        OutputError: No space, no permission, or a read-only file system.
    """
    write_bytes(path, text.encode())


def write_json(path: Path | str, value: object) -> None:
    """Writes a JSON file with sorted keys, whole or not at all.

    Args:
        path: The file; its folder is made.
        value: Anything that json_bytes takes.

    Raises:
        OutputError: No space, no permission, or a read-only file system.
    """
    write_bytes(path, json_bytes(value))


def rerun(path: object) -> str:
    """Names the command that makes a damaged file or folder of the workflow again.

    Args:
        path: The damaged output.

    Returns:
        A clause for the `fix` of an error.
    """
    return f"make it again: snakemake --cores all --forcerun {shlex.quote(str(path))}"


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def read_json(path: Path | str, error: type[SmacError] = SmacError) -> object:
    """Reads a JSON file.

    Args:
        path: The file.
        error: The class to raise.

    Returns:
        The parsed value.

    Raises:
        SmacError: The file is missing or is not JSON (as the class `error`).
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
        return json.loads(text, parse_constant=_refuse_constant)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise error("there is no such file", where=path, fix=rerun(path)) from None
    except (ValueError, RecursionError) as fault:
        raise error("the file is damaged", where=path, found=fault, fix=rerun(path)) from None


def seal(document: Mapping[str, object]) -> dict[str, object]:
    """Adds a digest of a document to the document itself.

    Args:
        document: JSON mapping; an old seal is replaced.

    Returns:
        A copy with the key `seal`, the sha256 of everything else.
    """
    bare = {key: value for key, value in document.items() if key != "seal"}
    return {**bare, "seal": hashlib.sha256(json_bytes(bare)).hexdigest()}


def read_exact_json(path: Path, error: type[SmacError]) -> dict[str, object]:
    """Reads a JSON mapping and refuses any byte that write_json would not have written.

    Args:
        path: The file.
        error: The class to raise.

    Returns:
        The parsed mapping.

    Raises:
        SmacError: The file is missing, no JSON mapping, or differs from its own canonical form.
    """
    value = read_json(path, error)
    if not isinstance(value, dict) or json_bytes(value) != path.read_bytes():
        raise error("the file was changed after it was written", where=path, fix=rerun(path))
    return value


def sha256_file(path: Path | str) -> str:
    """Hashes the bytes of a file.

    Args:
        path: The file.

    Returns:
        sha256 in hexadecimal.
    """
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def require_writable(folder: Path | str) -> None:
    """Makes a folder and writes a probe into it, so that a stage fails before its work, not after.

    Args:
        folder: The folder of the outputs.

    Raises:
        OutputError: The folder cannot be made or written, or the disk is full.
    """
    folder = Path(folder)
    probe = folder / f".probe.tmp-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(bytes(4096))
        # Another writer that has just locked the folder may take the probe for a leftover.
        with suppress(FileNotFoundError):
            _sync(probe)
    except OSError as error:
        _raise_output(error, folder)
    finally:
        # A folder that cannot be made or read holds no probe to remove.
        try:
            probe.unlink(missing_ok=True)
        except OSError as error:
            if output_error(error) is None:
                raise


def _try_lock(descriptor: int, folder: Path) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise OutputError(
            "another process is writing here",
            where=folder,
            fix="wait until it ends, or give another --out",
        ) from None
    except OSError as error:
        # Some cluster file systems have no locks; Snakemake's own directory lock remains there.
        if error.errno not in {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP}:
            raise
        return False
    return True


@contextmanager
def lock(folder: Path | str) -> Iterator[None]:
    """Holds a folder for one writer, and removes what killed writers left there.

    Args:
        folder: The folder of the outputs; it is made.

    Yields:
        None, while the lock is held.

    Raises:
        OutputError: Another process holds the folder, or it cannot be written.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # The file stays: unlinking it would let a third process lock a name that is gone.
        descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        _raise_output(error, folder)
    try:
        if _try_lock(descriptor, folder):
            for entry in folder.iterdir():
                if _TEMPORARY.fullmatch(entry.name):
                    remove(entry)
        yield
    finally:
        os.close(descriptor)
