"""What the operations on a collection have in common: envelopes, pages, and refusals."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn, TypeVar

from itwin_async.emulator._api.paging import LinkStyle, Window, page_links, read_window
from itwin_async.emulator._api.request import Request
from itwin_async.emulator._api.validation import InvalidRequest
from itwin_async.emulator._response import Response, refuse
from itwin_async.emulator._state.seed import JSON

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """How one kind of record is named on the wire, and how its list is paged.

    ``key`` is the envelope of one record, ``list_key`` that of a list. ``noun`` stands in messages
    ("Requested Changeset is not available."). ``missing`` is the code of a 404, ``invalid`` that
    of a 422. ``max_top`` is the most that `$top` may be.
    """

    key: str
    list_key: str
    noun: str
    missing: str
    invalid: str
    style: LinkStyle = LinkStyle.PLAIN
    max_top: int | None = None
    has_tokens: bool = False

    def find(self, records: Mapping[str, T], id: str) -> T:
        """The record of this id, or a 404."""
        record = records.get(id)
        return self.not_found() if record is None else record

    def not_found(self, target: str | None = None) -> NoReturn:
        """Refuse with 404."""
        refuse(404, self.missing, f"Requested {self.noun} is not available.", target)

    def invalid_request(self, message: str, detail_code: str = "InvalidValue") -> InvalidRequest:
        """What refuses a parameter or property of one operation with 422."""
        return InvalidRequest(self.invalid, message, detail_code)

    def window(self, request: Request, invalid: InvalidRequest) -> Window:
        """Which part of the list the query asks for."""
        return read_window(request, invalid, most=self.max_top, tokens=self.has_tokens)

    def page(
        self,
        request: Request,
        records: Sequence[T],
        render: Callable[[T], JSON],
        invalid: InvalidRequest,
        *,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """The page of these records that the query asks for."""
        window = self.window(request, invalid)
        items = [render(record) for record in records[window.slice]]
        links = page_links(request, window, len(records), self.style)
        return Response(json={self.list_key: items, "_links": links}, headers=headers or {})

    def one(self, item: JSON, *, status: int = 200) -> Response:
        """One record in its envelope."""
        return Response(status=status, json={self.key: item})
