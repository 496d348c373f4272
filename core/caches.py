"""Folders of results that are computed once: one process fills such a folder, others wait, and a full disk says so."""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from core.errors import InputError


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Waits until no other process is inside for this folder; a process that dies lets go."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    path = folder.with_name(f".{folder.name}.lock")
    while True:
        with open(path, "wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.exists() or path.stat().st_ino != os.fstat(lock.fileno()).st_ino:
                continue  # whoever had the lock has removed its file: the next comer would lock another
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return


@contextmanager
def explaining_full_disk(folder: Path) -> Iterator[None]:
    """Makes what the disk refuses an error that says what to do."""
    try:
        yield
    except InputError:
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise InputError(
                f"the disk is full: the feature cache {folder} could not be written ({error}). Free some space and "
                "start again, it goes on behind the last finished part; or put the cache on another disk"
            ) from error
        raise
