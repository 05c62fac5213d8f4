"""Lock files: held by one process at a time, and free when it ends, however it ends."""

import os
import sys
from pathlib import Path
from typing import BinaryIO

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl


def try_lock(file: BinaryIO, *, wait: bool = False) -> bool:
    """Lock an open file until it is closed; False if another process holds the lock.

    With ``wait`` it waits for that process, on Windows for ten seconds at most. Raises `OSError`
    where the file system has no locks.
    """
    try:
        if sys.platform == "win32":
            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # the latter on Windows
        return False
    return True


def try_lock_path(file: BinaryIO, path: Path, *, wait: bool = False) -> bool:
    """`try_lock` for a lock file that its holder removes; False also if it has just been removed.

    ``file`` is the open file of this path.
    """
    if not try_lock(file, wait=wait):
        return False
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
