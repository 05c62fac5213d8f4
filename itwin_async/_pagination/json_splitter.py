"""Finds the whole entries of a large page while it is still arriving. No I/O, no tokenizer.

A JSON object has no proper prefix that is a JSON object. So if the bytes from the start of the list
up to some ``}`` decode as a list of entries once a ``]`` is appended, they are whole entries and
nothing else, whatever braces, quotes or escapes are inside. See docs/adr/0001-no-tokenizer.md.
"""

import re
from collections.abc import Callable
from typing import Final, Generic, TypeVar

import msgspec

P = TypeVar("P")
E = TypeVar("E")

# Bytes that trial decoding may waste for each byte that arrives, and at the start. This keeps the
# whole linear: without it a 16 MB string of `}` took 4.5 s.
_CREDIT_PER_BYTE: Final = 4
_INITIAL_CREDIT: Final = 1 << 20
_MAX_BRACES: Final = 64  # braces considered for each chunk, from the last one back
_MAX_TRIALS: Final = 4  # trial decodes for each chunk
# What follows an entry: the next one, the list's end, or bytes that have not arrived yet.
_AFTER_ENTRY: Final = re.compile(rb"[ \t\r\n]*(?:,[ \t\r\n]*(?:\{|\Z)|\]|\Z)")
# Bytes without an entry after which the page is read to its end and decoded whole. The largest
# entry has 273 KB.
_GIVE_UP_SIZE: Final = 4 << 20
_WHITESPACE: Final = re.compile(rb"[ \t\r\n]*")


def _skip_whitespace(data: bytes | bytearray, start: int = 0) -> int:
    """The end of the white space that begins at ``start``."""
    match = _WHITESPACE.match(data, start)
    return match.end() if match else start


class Splitter(Generic[P, E]):
    """Takes a page chunk by chunk and returns its entries as they become whole.

    ``list_start`` matches the key of the list and its ``[``; ``decode_page`` decodes a page and
    ``decode_entries`` a list of entries. Both raise msgspec's errors.
    """

    __slots__ = (
        "_buffer", "_credit", "_decode_entries", "_decode_page", "_entries_found", "_head",
        "_list_start", "_scanned", "_splitting",
    )  # fmt: skip

    def __init__(
        self,
        list_start: "re.Pattern[bytes]",
        decode_page: Callable[[bytes | bytearray], P],
        decode_entries: Callable[[memoryview], list[E]],
    ) -> None:
        self._list_start = list_start
        self._decode_page = decode_page
        self._decode_entries = decode_entries
        self._buffer = bytearray()  # in the list: from the `[` or `,` before the next entry
        self._head = b""  # of the page, up to the list's `[`
        self._scanned = 0
        self._splitting = True  # False once the rest is decoded whole, at the end
        self._entries_found = False
        self._credit = _INITIAL_CREDIT

    def feed(self, chunk: bytes) -> list[E]:
        """The entries that this chunk completes; raises what ``decode_entries`` raises."""
        self._buffer += chunk
        self._credit += _CREDIT_PER_BYTE * len(chunk)
        if not self._splitting:
            return []
        if not self._head and not self._find_list():
            return []
        entries = self._whole_entries() if self._at_entry() else []
        if not entries and len(self._buffer) > _GIVE_UP_SIZE:
            self._splitting = False
        return entries

    def finish(self) -> P:
        """The page at the end of its body, with the entries that `feed` has not returned.

        Raises what ``decode_page`` raises when the page was cut or is not a page.
        """
        rest: bytes | bytearray = self._buffer
        if self._entries_found:
            rest = rest[_skip_whitespace(rest) :]
            if rest[:1] == b",":
                rest = rest[_skip_whitespace(rest, 1) :]
                if rest[:1] == b"]":
                    raise msgspec.DecodeError("JSON is malformed: trailing comma in array")
            elif rest[:1] != b"]":
                raise msgspec.DecodeError("JSON is malformed: expected ',' or ']'")
            rest = b"[" + rest
        page = self._decode_page(self._head + rest)
        self._buffer = bytearray()
        return page

    def _find_list(self) -> bool:
        """Find the list by its key; decoding the head with an empty list proves it the page's."""
        buffer = self._buffer
        while match := self._list_start.search(buffer, self._scanned):
            bracket = match.end() - 1
            if self._credit < bracket:
                break
            self._scanned = match.start() + 1
            try:
                self._decode_page(buffer[:bracket] + b"[]}")
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                self._credit -= bracket  # the key of another object, or a part of a string
                continue
            self._head = bytes(buffer[:bracket])
            del buffer[:bracket]
            return True
        else:
            # A key may be cut in two, with spaces before its bracket.
            self._scanned = max(self._scanned, len(buffer) - 1_024)
        self._splitting = len(buffer) <= _GIVE_UP_SIZE
        return False

    def _at_entry(self) -> bool:
        """Whether the buffer begins with the `[` or `,` before an entry, and not with the `]`."""
        if not self._entries_found:
            return True
        buffer = self._buffer
        start = _skip_whitespace(buffer)
        separator = buffer[start : start + 1]
        if separator == b",":
            del buffer[:start]
            return True
        self._splitting = not separator  # after the list there is nothing to split
        return False

    def _whole_entries(self) -> list[E]:
        """Remove the longest run of whole entries from the buffer's start, and return it."""
        buffer = self._buffer
        end = len(buffer)
        trials = 0
        for _ in range(_MAX_BRACES):
            end = buffer.rfind(b"}", 0, end)
            if end < 0 or self._credit < end or trials == _MAX_TRIALS:
                break
            if _AFTER_ENTRY.match(buffer, end + 1) is None:
                continue
            entries = self._try_decode(end + 1)
            if entries is not None:
                del buffer[: end + 1]
                self._entries_found = True
                return entries
            self._credit -= end
            trials += 1
        return []

    def _try_decode(self, end: int) -> list[E] | None:
        """Decode the bytes before ``end`` as a list, in place; None if it is not whole."""
        buffer = self._buffer
        following = buffer[end : end + 1]
        first = buffer[0]
        buffer[0] = 0x5B  # [
        buffer[end : end + 1] = b"]"
        try:
            with memoryview(buffer) as view, view[: end + 1] as data:
                return self._decode_entries(data)
        except msgspec.ValidationError:
            raise
        except msgspec.DecodeError:
            return None
        finally:
            buffer[0] = first
            buffer[end : end + 1] = following
