"""Files that are either whole or absent: atomic writes, checksums, JSON."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import StorageError


@contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` when the block succeeds.

    The temporary name keeps the suffix of `path` (encoders choose the format by it). When the block
    raises, the temporary file is removed and an older `path` stays as it was.

    Raises:
        StorageError: the disk is full, the folder cannot be written, or `path` is itself a folder.
    """
    path = Path(path)
    if path.is_dir():
        raise StorageError(f"Cannot write {path}, which is a folder: give the name of a file.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}.", suffix=path.suffix, dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise storage_error(path, error) from error
    partial = Path(name)
    try:
        yield partial
        partial.chmod(0o644)  # mkstemp makes files private; results are to be shared
        with partial.open("rb") as stream:
            os.fsync(stream.fileno())
        os.replace(partial, path)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if (number := os_error_number(error)) in STORAGE_ERRNOS:
            raise storage_error(path, OSError(number, os.strerror(number))) from error
        raise


STORAGE_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG}


def os_error_number(error: BaseException) -> int | None:
    """The errno of an OSError, or of one that a Rust library (safetensors) passes on as text: "... (os error 28)"."""
    if isinstance(error, OSError):
        return error.errno
    found = re.search(r"\(os error (\d+)\)", str(error))
    return int(found[1]) if found else None


def storage_error(path: Path, error: OSError) -> StorageError:
    """The sentence for an operating-system error met while writing `path`."""
    folder = next(parent for parent in path.absolute().parents if os.path.exists(parent))
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        free = shutil.disk_usage(folder).free / 1e6
        return StorageError(f"No space left while writing {path} ({free:.0f} MB free): free some or choose another folder, then run again.")
    return StorageError(f"Cannot write {path} ({error.strerror}): choose a folder that you may write to.")


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write a text file atomically."""
    with atomic_path(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Write `value` as indented JSON, atomically; NaN is refused (it is not JSON)."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def sha256(path: str | os.PathLike) -> str:
    """Hex SHA-256 of a file, read in constant memory."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
