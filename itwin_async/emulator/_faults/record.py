"""What the emulator keeps of a request."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from multidict import CIMultiDict, CIMultiDictProxy, MultiDict, MultiDictProxy

_Pairs = list[tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRecord:
    """One request that arrived.

    ``path`` and ``target`` (path and query) are as they were sent, ``query`` is decoded.
    ``operation`` is None where no operation fits, "token" for the token endpoint, "download",
    "download_archive" and "upload" for files. Times are those of ``time.monotonic``; ``status`` is
    the one that was sent, and stays None when none was.
    """

    operation: str | None
    method: str
    path: str
    target: str
    query: MultiDictProxy[str]
    headers: CIMultiDictProxy[str] = field(repr=False)
    body: bytes = field(repr=False)
    started: float
    ended: float | None = None
    status: int | None = None

    def __reduce__(self) -> tuple[object, ...]:
        # The read-only views of the HTTP library do not pickle.
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        query, headers = (
            [(str(name), value) for name, value in values.pop(view).items()]
            for view in ("query", "headers")
        )
        return _restore, (values, query, headers)


def _restore(values: Mapping[str, Any], query: _Pairs, headers: _Pairs) -> RequestRecord:
    return RequestRecord(
        query=MultiDictProxy(MultiDict(query)),
        headers=CIMultiDictProxy(CIMultiDict(headers)),
        **values,
    )
