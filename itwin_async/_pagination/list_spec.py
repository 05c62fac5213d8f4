"""What a list is, as a value: its first request, and how entries become items. No I/O."""

import hashlib
import re
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar, get_args

import msgspec

from itwin_async._core.operation import Request
from itwin_async._pagination.page_types import PageProtocol

T = TypeVar("T")
E = TypeVar("E")


class StreamFormat(msgspec.Struct, Generic[E], frozen=True):
    """How the entries of a page are decoded while it arrives.

    ``list_start`` matches the key of the page's list and its ``[``; ``decode_page`` and
    ``decode_entries`` decode a page and a list of entries, and raise msgspec's errors;
    ``entry_key`` identifies an entry when a page is read again.
    """

    list_start: "re.Pattern[bytes]"
    decode_page: Callable[[bytes | bytearray], PageProtocol[E]]
    decode_entries: Callable[[memoryview], list[E]]
    entry_key: Callable[[E], object]


class ListSpec(msgspec.Struct, Generic[E, T], frozen=True):
    """A list: its first request, how entries become items, and whether large pages are streamed.

    ``age_key`` identifies an entry of a list in order of age, whose new entries come last.
    """

    request: Request[PageProtocol[E]]
    build: Callable[[Sequence[E]], list[T]]
    stream_format: StreamFormat[E] | None = None
    age_key: Callable[[E], str] | None = None
    item_type: Any = None  # None where the items are a page's entries as they are

    @property
    def type_of_items(self) -> Any:
        """The type of the items."""
        if self.item_type is not None:
            return self.item_type
        page: Any = self.request.operation.returns
        listed = msgspec.structs.fields(page)[0].type  # as `entries` of a page gives it
        return get_args(listed)[0]

    @property
    def digest(self) -> str:
        """Identifies the list in its cursors: path and filters, not the page size."""
        path, _, query = self.request.target.partition("?")
        filters = sorted(pair for pair in query.split("&") if pair and not pair.startswith("$top="))
        text = "\0".join([path.rstrip("/").lower(), *filters])
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def request_for(self, target: str) -> Request[PageProtocol[E]]:
        """The request for another page of the list, with the same headers."""
        return Request(self.request.operation, target, self.request.headers)
