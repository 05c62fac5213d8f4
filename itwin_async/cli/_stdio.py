"""Standard streams as they may be: output is complete or an error, and messages never are one."""

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
from itwin_async.cli._tables import escaped, printable

_UTF_8: Final = "utf-8"
_MAX_WAIT: Final = 1.0  # seconds for which a message waits until standard error takes a byte


class _Thread(threading.local):
    writing: bool = False


_thread: Final = _Thread()


def is_writing() -> bool:
    """Whether this thread is in a write, which waits for a reader and not for the event loop."""
    return _thread.writing


class Stdout:
    """Standard output: each write is complete when it returns, or raises `OSError`.

    ``sys.stdout`` promises less. Unbuffered it writes a part and says so in a result that its own
    text layer ignores; where it does not block, it stops when a pipe is full. What its encoding
    does not have is escaped.
    """

    def __init__(self) -> None:
        self._stream: Final = sys.stdout

    @property
    def encoding(self) -> str:
        """What a character is encoded in."""
        return _encoding(self._stream)

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return self._stream.isatty()

    def fileno(self) -> int:
        """The number of its file."""
        return self._stream.fileno()

    def write(self, text: str) -> int:
        """Write text, with a backslash escape for what cannot be encoded."""
        encoding = self.encoding
        if not _is_utf_8(encoding):
            text = text.replace("…", "...")  # it stands for what was cut off
        self.write_bytes(text.encode(encoding, "backslashreplace"))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write them at once."""
        self.write("".join(lines))

    def write_json(self, data: bytes) -> None:
        r"""Write JSON in UTF-8, with escapes (``\u00fc``) where that is not the encoding."""
        if not _is_utf_8(self.encoding) and not data.isascii():
            data = escaped(data.decode(errors="replace"), "ascii").encode()
        self.write_bytes(data)

    def write_bytes(self, data: bytes) -> None:
        """Write bytes as they are."""
        with _noted():
            _write(self._stream, data, None)

    def flush(self) -> None:
        """Nothing is left to flush."""

    def finish(self) -> None:
        """Ask the file system whether it keeps what it took: some say so only at a close."""
        with _noted(), contextlib.suppress(AttributeError, io.UnsupportedOperation):  # no file
            os.close(os.dup(self._stream.fileno()))


@contextlib.contextmanager
def _noted() -> Generator[None]:
    """The system does not say which file it was that could not be written."""
    try:
        yield
    except OSError as error:
        error.add_note("Standard output is not complete.")
        raise


class Stderr:
    """Standard error: what cannot be written is lost, and nothing else happens."""

    def __init__(self) -> None:
        self._stream: Final = cast("TextIO | None", sys.stderr)

    @property
    def encoding(self) -> str:
        """What a character is encoded in."""
        return _encoding(self._stream)

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return self._stream is not None and not self._stream.closed and self._stream.isatty()

    def write(self, text: str) -> int:
        """Write text as far as that is possible."""
        if self._stream is not None:
            data = text.encode(self.encoding, "backslashreplace")
            with contextlib.suppress(OSError, ValueError):  # ValueError: it is closed
                _write(self._stream, data, _MAX_WAIT)
        return len(text)

    def flush(self) -> None:
        """Nothing is left to flush."""


def read_stdin() -> str:
    """All of standard input, which is UTF-8 whatever the locale says; `UnicodeError` if it is not.

    Waits for more where it does not block: Python takes what is there for all of it.
    """
    buffer = getattr(sys.stdin, "buffer", None)
    if buffer is None:  # a host's own stream of text
        return sys.stdin.read()
    pieces: list[bytes] = []
    while True:
        piece: bytes | None = buffer.read()
        if piece is None:
            _wait_until(selectors.EVENT_READ, buffer, None)
        elif piece:
            pieces.append(piece)
        if piece == b"" or buffer.isatty():  # a terminal would ask for a second end
            return b"".join(pieces).decode("utf-8-sig")


def as_file(stream: Stdout | Stderr) -> TextIO:
    """For functions that want all of a file, and use of it what is there."""
    return cast("TextIO", stream)


def say(text: object) -> None:
    """One line on stderr, in the command's name."""
    line = " ".join(printable(unsigned_value(str(text))).split())
    Stderr().write(f"itwin-async: {line}\n")


@contextlib.contextmanager
def open_streams() -> Generator[None]:
    """Lend the process the streams that it was started without (``2>&-``: None in Python).

    Nothing else then gets their numbers.
    """
    stdin, stderr = cast("tuple[TextIO | None, TextIO | None]", (sys.stdin, sys.stderr))
    with contextlib.ExitStack() as lent:
        if stdin is None:
            sys.stdin = lent.enter_context(Path(os.devnull).open(encoding=_UTF_8))
        if stderr is None:
            sys.stderr = lent.enter_context(Path(os.devnull).open("w", encoding=_UTF_8))
        try:
            yield
        finally:
            if stdin is None:
                sys.stdin = stdin
            if stderr is None:
                sys.stderr = stderr


def _write(stream: TextIO, data: bytes, max_wait: float | None) -> None:
    """Write all of it; ``max_wait`` bounds each wait for a stream that does not block."""
    before, _thread.writing = _thread.writing, True
    try:
        stream.flush()  # what others wrote comes first
        if not _is_of_bytes(stream):  # a notebook's, a progress bar's, a host's
            stream.write(data.decode(_encoding(stream), "replace"))
            stream.flush()
            return
        raw = cast("io.RawIOBase", getattr(stream.buffer, "raw", stream.buffer))
        left = memoryview(data)
        while left:
            written = raw.write(left)
            if written is not None:
                left = left[written:]
            elif not _wait_until(selectors.EVENT_WRITE, raw, max_wait):
                raise BlockingIOError
        raw.flush()
    finally:
        _thread.writing = before


def _is_of_bytes(stream: TextIO) -> bool:
    return isinstance(stream, io.TextIOWrapper)


def _wait_until(event: int, file: io.RawIOBase, seconds: float | None) -> bool:
    with selectors.DefaultSelector() as selector:
        selector.register(file, event)
        return bool(selector.select(seconds))


def _encoding(stream: TextIO | None) -> str:
    return getattr(stream, "encoding", None) or _UTF_8


def _is_utf_8(encoding: str) -> bool:
    return codecs.lookup(encoding).name == _UTF_8
