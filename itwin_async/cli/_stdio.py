"""Standard streams: output is complete or raises an error, and messages never raise one."""

import codecs
import contextlib
import io
import os
import select
import selectors
import sys
import threading
from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from typing import Final, TextIO, cast

from itwin_async._core.redaction import unsigned_value
from itwin_async.cli._text import escaped, printable

_UTF_8: Final = "utf-8"
_MAX_STDERR_WAIT: Final = 1.0  # seconds that a message waits until standard error takes a byte


# So much goes into a pipe at once when it is writable.
_UNBLOCKED_BYTES: Final[int] = getattr(select, "PIPE_BUF", 512)


class _ThreadState(threading.local):
    writing_to: io.IOBase | TextIO | None = None
    interrupted: bool = False


_thread: Final = _ThreadState()


@contextlib.contextmanager
def interruptible_writes() -> Generator[Callable[[], None]]:
    """Gives what a signal handler calls, so that no write of this thread waits from then on.

    Cancelling a task does not interrupt a write that waits: that raises `KeyboardInterrupt`. Any
    other is completed, so that who wrote knows what was written.
    """

    def interrupt() -> None:
        _thread.interrupted = True
        if _thread.writing_to is not None and _waits(_thread.writing_to):
            raise KeyboardInterrupt

    try:
        yield interrupt
    finally:
        _thread.interrupted = False


class Stdout:
    """Standard output: each write is complete when it returns, or raises `OSError`.

    ``sys.stdout`` promises less: unbuffered, its text layer ignores that a write was partial, and a
    non-blocking one stops when a pipe is full. Characters that its encoding lacks are escaped.
    """

    def __init__(self) -> None:
        self._stream: Final = sys.stdout

    @property
    def encoding(self) -> str:
        """Name of the encoding."""
        return _encoding(self._stream)

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return self._stream.isatty()

    def fileno(self) -> int:
        """Its file descriptor."""
        return self._stream.fileno()

    def write(self, text: str) -> int:
        """Write text, with a backslash escape for what cannot be encoded."""
        encoding = self.encoding
        if not _is_utf_8(encoding):
            text = text.replace("…", "...")  # marks a cell that was cut
        self.write_bytes(text.encode(encoding, "backslashreplace"))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write lines in one call."""
        self.write("".join(lines))

    def write_json(self, data: bytes) -> None:
        r"""Write JSON in UTF-8, with escapes (``\u00fc``) where that is not the encoding."""
        if not _is_utf_8(self.encoding) and not data.isascii():
            data = escaped(data.decode(errors="replace"), "ascii").encode()
        self.write_bytes(data)

    def write_bytes(self, data: bytes) -> None:
        """Write bytes unchanged."""
        with _noting_incomplete_output():
            _write(self._stream, data, None)

    def flush(self) -> None:
        """Do nothing: every write is complete."""

    def finish(self) -> None:
        """Raise the write errors that a file system reports only when a file is closed."""
        no_file = (AttributeError, io.UnsupportedOperation)
        with _noting_incomplete_output(), contextlib.suppress(*no_file):
            os.close(os.dup(self._stream.fileno()))


@contextlib.contextmanager
def _noting_incomplete_output() -> Generator[None]:
    """Add to an `OSError` which file was not written: the system does not say."""
    try:
        yield
    except OSError as error:
        error.add_note("Standard output is not complete.")
        raise


class Stderr:
    """Standard error: a message that cannot be written is dropped."""

    def __init__(self) -> None:
        self._stream: Final = cast("TextIO | None", sys.stderr)

    @property
    def encoding(self) -> str:
        """Name of the encoding."""
        return _encoding(self._stream)

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return self._stream is not None and not self._stream.closed and self._stream.isatty()

    def write(self, text: str) -> int:
        """Write text, or drop it if that fails."""
        if self._stream is not None:
            data = text.encode(self.encoding, "backslashreplace")
            with contextlib.suppress(OSError, ValueError):  # ValueError: it is closed
                _write(self._stream, data, _MAX_STDERR_WAIT)
        return len(text)

    def flush(self) -> None:
        """Do nothing: every write is complete."""


def read_stdin() -> str:
    """Read standard input to its end, as UTF-8 whatever the locale; raises `UnicodeError`.

    Waits at a non-blocking stream, where Python itself would stop at the first gap.
    """
    buffer = getattr(sys.stdin, "buffer", None)
    if buffer is None:  # a text stream that the host program put there
        return sys.stdin.read()
    pieces: list[bytes] = []
    while True:
        piece: bytes | None = buffer.read()
        if piece is None:
            _wait_until(selectors.EVENT_READ, buffer, None)
        elif piece:
            pieces.append(piece)
        if piece == b"" or buffer.isatty():  # a terminal would need Ctrl-D twice
            return b"".join(pieces).decode("utf-8-sig")


def as_file(stream: Stdout | Stderr) -> TextIO:
    """The stream as a `TextIO`, for functions that call only the methods it has."""
    return cast("TextIO", stream)


def print_error(message: object) -> None:
    """Print one line on stderr, after the command's name. No query of a URL is in it."""
    line = " ".join(printable(unsigned_value(str(message))).split())
    Stderr().write(f"itwin-async: {line}\n")


@contextlib.contextmanager
def open_streams() -> Generator[None]:
    """Open the standard streams that the process was started without (``2>&-``) on the null device.

    No file that is opened meanwhile gets their descriptors.
    """
    stdin, stderr = cast("tuple[TextIO | None, TextIO | None]", (sys.stdin, sys.stderr))
    with contextlib.ExitStack() as opened:
        if stdin is None:
            sys.stdin = opened.enter_context(Path(os.devnull).open(encoding=_UTF_8))
        if stderr is None:
            sys.stderr = opened.enter_context(Path(os.devnull).open("w", encoding=_UTF_8))
        try:
            yield
        finally:
            if stdin is None:
                sys.stdin = stdin
            if stderr is None:
                sys.stderr = stderr


def _write(stream: TextIO, data: bytes, max_wait: float | None) -> None:
    """Write all of ``data``; a wait for a non-blocking stream ends after ``max_wait`` seconds."""
    raw = _raw_file(stream)
    before, _thread.writing_to = _thread.writing_to, stream if raw is None else raw
    try:
        stream.flush()  # what was written past this class comes first
        if raw is None:  # of a notebook, a progress bar or a host program
            stream.write(data.decode(_encoding(stream), "replace"))
            stream.flush()
            return
        remaining = memoryview(data)
        while remaining:
            if _thread.interrupted and _waits(raw):
                raise KeyboardInterrupt
            most = _UNBLOCKED_BYTES if _thread.interrupted else None
            written = raw.write(remaining[:most])
            if written is not None:
                remaining = remaining[written:]
            elif not _wait_until(selectors.EVENT_WRITE, raw, max_wait):
                raise BlockingIOError
        raw.flush()
    finally:
        _thread.writing_to = before


def _raw_file(stream: TextIO) -> io.RawIOBase | None:
    """What is below the buffers; None for a stream that the host program put there."""
    buffer = stream.buffer if _has_buffer(stream) else None
    return cast("io.RawIOBase | None", getattr(buffer, "raw", buffer))


def _has_buffer(stream: TextIO) -> bool:
    return isinstance(stream, io.TextIOWrapper)


def _waits(file: io.IOBase | TextIO) -> bool:
    """Whether a write would wait, or nobody can tell."""
    try:
        return not _wait_until(selectors.EVENT_WRITE, file, 0)
    except PermissionError:  # the system selects no regular files, which never wait
        return False
    except (OSError, ValueError):
        return True


def _wait_until(event: int, file: io.IOBase | TextIO, seconds: float | None) -> bool:
    with selectors.DefaultSelector() as selector:
        selector.register(file, event)
        return bool(selector.select(seconds))


def _encoding(stream: TextIO | None) -> str:
    return getattr(stream, "encoding", None) or _UTF_8


def _is_utf_8(encoding: str) -> bool:
    return codecs.lookup(encoding).name == _UTF_8
