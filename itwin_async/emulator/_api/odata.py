"""The part of OData that the platform's lists support: select, filter and order."""

import operator
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeVar

from itwin_async.emulator._api.request import Request
from itwin_async.emulator._api.validation import InvalidRequest
from itwin_async.emulator._state.seed import JSON

_T = TypeVar("_T")
Test = Callable[[JSON], bool]

_TOKEN: Final = re.compile(r"\s*('(?:[^']|'')*'|[(),]|[^\s(),']+)")
_NUMBER: Final = re.compile(r"-?\d+(\.\d+)?")
_CONSTANTS: Final[dict[str, Any]] = {"true": True, "false": False, "null": None}
_COMPARE: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "gt": operator.gt,
    "ge": operator.ge,
    "lt": operator.lt,
    "le": operator.le,
}
_FUNCTIONS: Final[dict[str, Callable[[str, str], bool]]] = {
    "contains": operator.contains,
    "startswith": str.startswith,
    "endswith": str.endswith,
}


class _FilterParser:
    """Parses one filter: `or` binds weakest, then `and`, then `not`."""

    def __init__(self, text: str, fields: Sequence[str]) -> None:
        self._tokens: list[str] = []
        at = 0
        while text[at:].strip():
            found = _TOKEN.match(text, at)
            if found is None:
                raise ValueError("'$filter' has a string without an end.")
            self._tokens.append(found[1])
            at = found.end()
        self._fields = fields

    def read(self) -> Test:
        """The whole filter."""
        test = self._any()
        if self._tokens:
            raise ValueError(f"'{self._tokens[0]}' is not expected in '$filter'.")
        return test

    def _take(self, *expected: str) -> str:
        if not self._tokens or (expected and self._tokens[0] not in expected):
            raise ValueError(f"'$filter' ends early or lacks {' or '.join(expected) or 'a value'}.")
        return self._tokens.pop(0)

    def _next_is(self, word: str) -> bool:
        if self._tokens[:1] != [word]:
            return False
        self._tokens.pop(0)
        return True

    def _any(self) -> Test:
        tests = [self._all()]
        while self._next_is("or"):
            tests.append(self._all())
        return lambda row: any(test(row) for test in tests)

    def _all(self) -> Test:
        tests = [self._one()]
        while self._next_is("and"):
            tests.append(self._one())
        return lambda row: all(test(row) for test in tests)

    def _one(self) -> Test:
        if self._next_is("not"):
            negated = self._one()
            return lambda row: not negated(row)
        if self._next_is("("):
            inner = self._any()
            self._take(")")
            return inner
        if self._tokens and self._tokens[0] in _FUNCTIONS:
            function = _FUNCTIONS[self._take()]
            self._take("(")
            name = self._field()
            self._take(",")
            part = str(self._literal())
            self._take(")")
            return lambda row: isinstance(row.get(name), str) and function(row[name], part)
        name = self._field()
        compare, value = _COMPARE[self._take(*_COMPARE)], self._literal()

        def test(row: JSON) -> bool:
            try:
                return compare(row.get(name), value)
            except TypeError:
                return False

        return test

    def _field(self) -> str:
        return self._take(*self._fields)

    def _literal(self) -> Any:
        word = self._take()
        if word.startswith("'"):
            return word[1:-1].replace("''", "'")
        if _NUMBER.fullmatch(word):
            return float(word)
        return _CONSTANTS.get(word, word)


def read_filter(text: str | None, fields: Sequence[str]) -> Test:
    """What `$filter` asks of a row; a `ValueError` says what is wrong with it."""
    return _FilterParser(text, fields).read() if text else lambda _: True


def read_order(text: str | None, fields: Sequence[str]) -> list[tuple[str, bool]]:
    """The fields of `$orderBy` or `$orderby`, each with whether it descends."""
    order: list[tuple[str, bool]] = []
    for part in text.split(",") if text else ():
        name, direction = (*part.split(), "asc", "")[:2] if part.strip() else ("", "")
        if name not in fields or direction not in {"asc", "desc"} or len(part.split()) > 2:
            raise ValueError(f"'{part.strip()}' is not a valid order.")
        order.append((name, direction == "desc"))
    return order


def sort(rows: list[JSON], order: Iterable[tuple[str, bool]]) -> None:
    """Put rows in order."""
    for name, descending in reversed(list(order)):
        rows.sort(key=lambda row: (row[name] is not None, row[name]), reverse=descending)


def read_select(text: str | None, fields: Sequence[str]) -> list[str]:
    """The fields of `$select`; all when it is absent."""
    chosen = [name.strip() for name in text.split(",")] if text else list(fields)
    for name in chosen:
        if name not in fields:
            raise ValueError(f"'{name}' is not a known property.")
    return chosen


def read_parameter(
    request: Request,
    invalid: InvalidRequest,
    name: str,
    read: Callable[[str | None, Sequence[str]], _T],
    fields: Sequence[str],
) -> _T:
    """A query parameter as ``read`` parses it; a `ValueError` of it refuses the request."""
    try:
        return read(request.get(name), fields)
    except ValueError as problem:
        invalid(name, str(problem))
