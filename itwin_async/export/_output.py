"""The output of an export: where it lies, and how a finished file gets its name.

Everything here blocks, and is called from threads.
"""

import errno
import os
import re
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Final

from itwin_async._core.validation import path_text
from itwin_async._files.atomic import PIECE_BYTES, naming_errors, sync_file

_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:[\\/]")  # a drive of Windows is one letter
_NO_RENAME: Final = {errno.EXDEV, errno.EBUSY, errno.EPERM, errno.EACCES, errno.EROFS}


def check_local(output: str | os.PathLike[str]) -> Path:
    """The path of an output; `ValueError` for a URL."""
    text = path_text("output", output)
    path = Path(text)
    if _URL.match(text) or _URL.match(str(path)):
        raise ValueError(
            f"output must be a path of this machine, not a URL: {text!r}; "
            "export to a local file, and copy it there"
        )
    return path


def resolve_output(output: Path) -> Path:
    """The path with its symbolic links followed; an error if no file can be written there."""
    path = output.resolve()
    if not path.parent.is_dir():
        if output.parts[0].startswith("~"):
            raise ValueError(
                f"output begins with {output.parts[0]}, which means a home directory to a shell "
                "alone: give its path, or pathlib.Path(output).expanduser()"
            )
        raise FileNotFoundError(
            errno.ENOENT, "The directory of the output is not there", str(path.parent)
        )
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise PermissionError(
            errno.EACCES, "The directory of the output cannot be written to", str(path.parent)
        )
    if path.exists() and not path.is_file():
        what = "directory" if path.is_dir() else "device"
        raise ValueError(f"output must be a file, and {path} is a {what}")
    return path


class OutputPlacement:
    """Puts a finished file in the output's place: by a rename, or else by writing over it.

    The output is written in place, which another process may see half done, where it is a mount
    of its own, its directory does not let it be removed, or the parts lie on another file system.
    The constructor finds out which it is, and leaves no trace of that.
    """

    def __init__(self, parts_directory: Path, output: Path) -> None:
        self._output = output
        probe = parts_directory / "whole.probe"
        with suppress(FileNotFoundError):
            probe.rmdir()
        probe.mkdir()
        # The source is missing: an error about another file system is reported before that.
        self._is_other_device = _error_of_rename(probe / "missing", output) == errno.EXDEV
        # A directory is never renamed to a file: an error that forbids any rename comes first.
        self.in_place = self._is_other_device or (
            output.exists()
            and (
                _error_of_rename(probe, output) in _NO_RENAME
                or _is_mount(output, parts_directory / "whole.link")
            )
        )
        probe.rmdir()
        if self.in_place and output.exists() and not os.access(output, os.W_OK):
            raise PermissionError(
                errno.EACCES, "The output can neither be replaced nor written to", str(output)
            )

    def put(self, source: Path, target: Path) -> None:
        """Give a file the name of the output or of a file beside it, replacing what is there."""
        if not (self.in_place if target == self._output else self._is_other_device):
            try:
                source.replace(target)
            except OSError as error:
                # The probes did not foresee this. A target with a second name is not written
                # over: that would change what this export adds to.
                if error.errno not in _NO_RENAME or (
                    target.exists() and target.stat().st_nlink > 1
                ):
                    raise
            else:
                return
        _write_over(source, target)


def _write_over(source: Path, target: Path) -> None:
    """Copy a file to another one, which stays the same file."""
    with (
        naming_errors(target),
        source.open("rb") as reading,
        target.open("r+b" if target.exists() else "wb") as writing,
    ):
        shutil.copyfileobj(reading, writing, PIECE_BYTES)
        writing.truncate()
        sync_file(writing)


def _is_mount(path: Path, link: Path) -> bool:
    """Whether a file is a mount of its own: its device is that of its directory, but no link is."""
    link.unlink(missing_ok=True)
    try:
        os.link(path, link)
    except OSError as error:  # otherwise most often: no links on this file system
        return error.errno == errno.EXDEV
    link.unlink()
    return False


def _error_of_rename(path: Path, target: Path) -> int | None:
    """The error number of a rename that cannot succeed."""
    try:
        path.rename(target)
    except OSError as error:
        return error.errno
    return None
