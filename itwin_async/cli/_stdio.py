"""Standard streams: output is complete or raises an error, and messages never raise one."""

import codecs
import contextlib
import io
import os
import selectors
import sys
import threading
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Final, TextIO, cast

from itwin_async._core.redaction import unsigned_value
from itwin_async.cli._text import escaped, printable

_UTF_8: Final = "utf-8"
_MAX_STDERR_WAIT: Final = 1.0  # seconds that a message waits until standard error takes a byte


class _ThreadState(threading.local):
    writing: bool = False


_thread: Final = _ThreadState()


def is_writing() -> bool:
    """Whether this thread is blocked in a write: cancelling its task would not interrupt that."""
    return _thread.writing


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
    before, _thread.writing = _thread.writing, True
    try:
        stream.flush()  # what was written past this class comes first
        if not _has_buffer(stream):  # of a notebook, a progress bar or a host program
            stream.write(data.decode(_encoding(stream), "replace"))
            stream.flush()
            return
        raw = cast("io.RawIOBase", getattr(stream.buffer, "raw", stream.buffer))
        remaining = memoryview(data)
        while remaining:
            written = raw.write(remaining)
            if written is not None:
                remaining = remaining[written:]
            elif not _wait_until(selectors.EVENT_WRITE, raw, max_wait):
                raise BlockingIOError
        raw.flush()
    finally:
        _thread.writing = before


def _has_buffer(stream: TextIO) -> bool:
    return isinstance(stream, io.TextIOWrapper)


def _wait_until(event: int, file: io.RawIOBase, seconds: float | None) -> bool:
    with selectors.DefaultSelector() as selector:
        selector.register(file, event)
        return bool(selector.select(seconds))


def _encoding(stream: TextIO | None) -> str:
    return getattr(stream, "encoding", None) or _UTF_8


def _is_utf_8(encoding: str) -> bool:
    return codecs.lookup(encoding).name == _UTF_8
