"""Where an entry of a large page ends while the page is still arriving. No I/O, no tokenizer.

A JSON object has no proper prefix that is a JSON object. So if the bytes from the start of the list
up to some ``}`` decode as a list of entries once a ``]`` is put behind them, they are whole entries
and nothing else, whatever braces, quotes or escapes stand inside.
"""

import re
from collections.abc import Callable
from typing import Final, Generic, TypeVar

import msgspec

P = TypeVar("P")
E = TypeVar("E")

# Bytes that may be decoded in vain for each byte that arrives, and to begin with: it keeps the
# whole linear. (Without it one string of `}` took 4.5 s for 16 MB.)
_CREDIT: Final = 4
_FIRST_CREDIT: Final = 1 << 20
_LOOKS: Final = 64  # braces looked at for each piece, from the last one back, …
_TRIALS: Final = 4  # … and of those that may end an entry, how many are tried
# What follows an entry: the next one, the list's end, or what has not arrived yet.
_BEHIND: Final = re.compile(rb"[ \t\r\n]*(?:,[ \t\r\n]*(?:\{|\Z)|\]|\Z)")
_HOPELESS: Final = 4 << 20  # bytes without an entry (the largest has 273 KB): read on, decode whole
_SPACE: Final = re.compile(rb"[ \t\r\n]*")


def _spaces(text: bytes | bytearray, start: int = 0) -> int:
    """Where the white space from ``start`` on ends."""
    match = _SPACE.match(text, start)
    return match.end() if match else start


class Splitter(Generic[P, E]):
    """Takes a page piece by piece and gives its entries as they become whole.

    ``opening`` finds the list up to its ``[``; ``whole`` decodes a page and ``run`` a list of
    entries, both raising ``msgspec.DecodeError`` (or its kin) for what they cannot decode.
    """

    __slots__ = (
        "_buffer", "_credit", "_head", "_listed", "_opening", "_run", "_scanned", "_split",
        "_whole",
    )  # fmt: skip

    def __init__(
        self,
        opening: "re.Pattern[bytes]",
        whole: Callable[[bytes | bytearray], P],
        run: Callable[[memoryview], list[E]],
    ) -> None:
        self._opening = opening
        self._whole = whole
        self._run = run
        self._buffer = bytearray()  # in the list: from the `[` or `,` before the next entry
        self._head = b""  # up to the list, without its `[`
        self._scanned = 0
        self._split = True  # whether entries can still be told apart
        self._listed = False  # whether an entry was given already
        self._credit = _FIRST_CREDIT

    def feed(self, piece: bytes) -> list[E]:
        """The entries that this piece completes; raises what ``run`` raises for bad ones."""
        self._buffer += piece
        self._credit += _CREDIT * len(piece)
        if not self._split:
            return []
        if not self._head and not self._find_list():
            return []
        entries = self._entries() if self._at_entry() else []
        if not entries and len(self._buffer) > _HOPELESS:
            self._split = False
        return entries

    def finish(self) -> P:
        """The page at the end of its body, with the entries that were not given before.

        Raises what ``whole`` raises when the page was cut or is not a page.
        """
        rest: bytes | bytearray = self._buffer
        if self._listed:
            rest = rest[_spaces(rest) :]
            if rest[:1] == b",":
                rest = rest[_spaces(rest, 1) :]
                if rest[:1] == b"]":
                    raise msgspec.DecodeError("JSON is malformed: trailing comma in array")
            elif rest[:1] != b"]":
                raise msgspec.DecodeError("JSON is malformed: expected ',' or ']'")
            rest = b"[" + rest
        page = self._whole(self._head + rest)
        self._buffer = bytearray()
        return page

    def _find_list(self) -> bool:
        """Find the list by its key, and prove that it is the page's own by decoding the head."""
        buffer = self._buffer
        while match := self._opening.search(buffer, self._scanned):
            bracket = match.end() - 1
            if self._credit < bracket:
                break
            self._scanned = match.start() + 1
            try:
                self._whole(buffer[:bracket] + b"[]}")
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                self._credit -= bracket  # the key of something else, or text in a string
                continue
            self._head = bytes(buffer[:bracket])
            del buffer[:bracket]
            return True
        else:
            # A key may be cut in two, with spaces before its bracket.
            self._scanned = max(self._scanned, len(buffer) - 1_024)
        self._split = len(buffer) <= _HOPELESS
        return False

    def _at_entry(self) -> bool:
        """Whether the buffer begins with the mark before an entry; not so behind the list's end."""
        if not self._listed:
            return True
        buffer = self._buffer
        start = _spaces(buffer)
        mark = buffer[start : start + 1]
        if mark == b",":
            del buffer[:start]
            return True
        self._split = not mark  # behind the list nothing is split any more
        return False

    def _entries(self) -> list[E]:
        """The longest run of whole entries at the buffer's beginning."""
        buffer = self._buffer
        end = len(buffer)
        trials = 0
        for _ in range(_LOOKS):
            end = buffer.rfind(b"}", 0, end)
            if end < 0 or self._credit < end or trials == _TRIALS:
                break
            if _BEHIND.match(buffer, end + 1) is None:
                continue
            entries = self._try(end + 1)
            if entries is not None:
                del buffer[: end + 1]
                self._listed = True
                return entries
            self._credit -= end
            trials += 1
        return []

    def _try(self, end: int) -> list[E] | None:
        """Decode in place what lies before ``end`` as a list; None if it is not whole."""
        buffer = self._buffer
        behind = buffer[end : end + 1]
        first = buffer[0]
        buffer[0] = 0x5B  # [
        buffer[end : end + 1] = b"]"
        try:
            with memoryview(buffer) as view, view[: end + 1] as text:
                return self._run(text)
        except msgspec.ValidationError:
            raise
        except msgspec.DecodeError:
            return None
        finally:
            buffer[0] = first
            buffer[end : end + 1] = behind
