"""How far the extended data of one iModel was handed over, and its encoding in some 35 bytes.

A list is a sequence of entries by changeset index, and data that is stored late appears in the
middle. So a number of entries is no place: known by their index are the last entries, the window,
and where in the list it began. What is read again begins there. An entry below the window was
handed over, or is too old to be looked for; one in the window is known; any other is new.
"""

import bisect
import itertools
from dataclasses import dataclass, field
from typing import Final, Self

from itwin_async._core.validation import check_count

_SETTLED: Final = 1
_GONE: Final = 2
_PUSHED: Final = 4
_BITS: Final = 8
_DELTAS: Final = 16
_MAX_LOOK_BACK: Final = 1_000_000  # indexes that a window may have, and forged bytes stand for
_TIME_BYTES: Final = 7
MAX_TIME: Final = (1 << 8 * _TIME_BYTES) - 1  # microseconds since 1970: the year 4253


def check_look_back(look_back: object) -> None:
    """`TypeError` or `ValueError` unless a window may have so many entries."""
    check_count("look_back", look_back, least=0, most=_MAX_LOOK_BACK)


@dataclass(slots=True)
class ListState:
    """What was handed over of one iModel's list.

    ``start`` is the number of entries before the window, ``window`` the changeset indexes of the
    known entries from there on, and ``rows`` counts all entries that were handed over. ``pushed``
    is the iModel's last push, in microseconds since 1970, when the list was last read to its end;
    ``settled`` is whether that was long enough after the push for all data to be there. ``gone`` is
    whether the iModel was deleted.
    """

    start: int = 0
    window: list[int] = field(default_factory=list[int])
    rows: int = 0
    pushed: int | None = None
    settled: bool = False
    gone: bool = False

    def copy(self) -> "ListState":
        """A state that changes by itself."""
        return ListState(
            self.start, self.window.copy(), self.rows, self.pushed, self.settled, self.gone
        )

    def may_have_new(self, pushed: int | None) -> bool:
        """Whether the list of an iModel with this last push may have entries that are new."""
        return (
            self.gone
            or self.pushed != pushed
            or not self.settled
            or (pushed is None and bool(self.rows))  # a platform that does not say when
        )

    def is_further_than(self, other: "ListState") -> bool:
        """Whether this is the later one of two states of one list."""
        return self.progress > other.progress

    @property
    def progress(self) -> tuple[int, int, bool, bool]:
        """Grows along the history of a list."""
        return self.rows, -1 if self.pushed is None else self.pushed, self.settled, self.gone

    def is_new(self, position: int, index: int) -> bool:
        """Whether the entry at this place of the list was not handed over yet.

        Called for one entry after the other; keeps the place of the window, which moves where data
        was stored late before it.
        """
        if not self.window:
            return True
        first = self.window[0]
        if self.start and index < first:
            self.start = position + 1
            return False
        if index == first:
            self.start = position
            return False
        at = bisect.bisect_left(self.window, index)
        return at == len(self.window) or self.window[at] != index

    def add(self, index: int, look_back: int) -> None:
        """The new entry with this index was handed over; the window keeps so many entries."""
        bisect.insort(self.window, index)
        self.rows += 1
        surplus = len(self.window) - max(1, look_back)
        if surplus > 0:
            del self.window[:surplus]
            self.start += surplus

    def encode(self) -> bytes:
        """The state as bytes."""
        flags = _SETTLED * self.settled | _GONE * self.gone
        head = bytearray()
        if self.pushed is not None:
            flags |= _PUSHED
            head += self.pushed.to_bytes(_TIME_BYTES)
        _put(head, self.start)
        # All entries before the window are rows, but for those that were stored too late for it.
        _put_signed(head, self.rows - self.start - len(self.window))
        if self.window:
            _put_signed(head, self.window[0])
            encoded, flag = min(
                ((_runs(self.window), 0), (_deltas(self.window), _DELTAS)),
                key=lambda choice: len(choice[0]),
            )
            bytes_of_bits = (self.window[-1] - self.window[0] + 7) // 8
            if bytes_of_bits < len(encoded):
                encoded, flag = _bits(self.window, bytes_of_bits), _BITS
            head += encoded
            flags |= flag
        return bytes([flags]) + bytes(head)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """The state that was encoded; `ValueError` for other bytes."""
        numbers = _Reader(data)
        flags = numbers.byte()
        if flags & ~(_SETTLED | _GONE | _PUSHED | _BITS | _DELTAS):
            raise ValueError("unknown flags")
        pushed = int.from_bytes(numbers.take(_TIME_BYTES)) if flags & _PUSHED else None
        start, others = numbers.number(), numbers.signed()
        window: list[int] = []
        if numbers.left:
            window.append(numbers.signed())
            if flags & _BITS:
                bits = numbers.take(numbers.left)
                first = window[0] + 1
                window += [
                    first + at for at in range(8 * len(bits)) if bits[at >> 3] >> (at & 7) & 1
                ]
            elif flags & _DELTAS:
                while numbers.left:
                    window.append(window[-1] + 1 + numbers.number())
            else:
                window += numbers.run(window[0] + 1)
                while numbers.left:
                    window.append(window[-1] + 2 + numbers.number())
                    window += numbers.run(window[-1] + 1)
        rows = start + len(window) + others
        if rows < 0 or (start and not window):
            raise ValueError("impossible numbers")
        return cls(
            start, window, rows, pushed, settled=bool(flags & _SETTLED), gone=bool(flags & _GONE)
        )


def _runs(indexes: list[int]) -> bytearray:
    """Lengths of runs and the gaps between them, from the first index on."""
    encoded = bytearray()
    length = 0
    for before, index in itertools.pairwise(indexes):
        if index == before + 1:
            length += 1
        else:
            _put(encoded, length)
            _put(encoded, index - before - 2)
            length = 0
    _put(encoded, length)
    return encoded


def _deltas(indexes: list[int]) -> bytearray:
    """The gap before each index but the first."""
    encoded = bytearray()
    for before, index in itertools.pairwise(indexes):
        _put(encoded, index - before - 1)
    return encoded


def _bits(indexes: list[int], size: int) -> bytearray:
    """So many bytes, with a bit for each index behind the first one."""
    bits = bytearray(size)
    for index in itertools.islice(indexes, 1, None):
        at = index - indexes[0] - 1
        bits[at >> 3] |= 1 << (at & 7)
    return bits


def _put(data: bytearray, number: int) -> None:
    """Append a number of any size, seven bits a byte."""
    while number > 0x7F:
        data.append(number & 0x7F | 0x80)
        number >>= 7
    data.append(number)


def _put_signed(data: bytearray, number: int) -> None:
    _put(data, number * 2 if number >= 0 else -number * 2 - 1)


class _Reader:
    """Reads numbers; `ValueError` at a premature end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        """How many bytes are left."""
        return len(self._data) - self._at

    def take(self, size: int) -> bytes:
        """The next so many bytes."""
        if size > self.left:
            raise ValueError("too short")
        self._at += size
        return self._data[self._at - size : self._at]

    def byte(self) -> int:
        """The next byte."""
        return self.take(1)[0]

    def number(self) -> int:
        """The next number."""
        number = shift = 0
        while (byte := self.byte()) & 0x80:
            number |= (byte & 0x7F) << shift
            shift += 7
        return number | byte << shift

    def signed(self) -> int:
        """The next number, which may be negative."""
        number = self.number()
        return number // 2 if number % 2 == 0 else -(number + 1) // 2

    def run(self, first: int) -> range:
        """As many numbers in a row as the next number says."""
        length = self.number()
        if length > _MAX_LOOK_BACK:
            raise ValueError("too long")
        return range(first, first + length)
