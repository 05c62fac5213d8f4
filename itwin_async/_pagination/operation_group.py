"""The base of the classes that hold the operations of an API, such as ``itwin.imodels``."""

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Generic, TypeVar, overload

from itwin_async._core.headers import ResponseHeaders
from itwin_async._core.lazy import load_api
from itwin_async._core.operation import Request
from itwin_async._http.answered import Answered
from itwin_async._http.body import LiveBody, read_whole
from itwin_async._pagination.list_context import ListContext
from itwin_async._pagination.list_spec import ListSpec, StreamFormat
from itwin_async._pagination.page_types import PageProtocol
from itwin_async._pagination.pager import Pager

T = TypeVar("T")
E = TypeVar("E")
G = TypeVar("G")


class OperationGroup:
    """The operations of one API. A method checks its arguments, makes a request and runs it."""

    def __init__(self, context: ListContext) -> None:
        self._context = context
        self._executor = context.executor

    def _call(self, request: Request[T]) -> Coroutine[Any, Any, T]:
        """Send a request and decode its response."""
        return self._executor.execute_decoded(request)

    async def _call_whole(self, request: Request[T]) -> Answered[T]:
        """Send a request; its decoded response with status and headers."""

        async def decode(body: LiveBody) -> Answered[T]:
            data = request.operation.decode(await read_whole(body), body)
            return Answered(body.status, ResponseHeaders(body.headers), body.request_id, data)

        return await self._executor.execute(request, decode)

    @overload
    def _list(
        self, request: Request[PageProtocol[T]], *, age_key: Callable[[T], str] | None = None
    ) -> Pager[T]: ...
    @overload
    def _list(
        self,
        request: Request[PageProtocol[E]],
        build: Callable[[Sequence[E]], list[T]],
        stream_format: StreamFormat[E] | None = None,
        *,
        age_key: Callable[[E], str] | None = None,
        item_type: Any,
    ) -> Pager[T]: ...
    def _list(
        self,
        request: Request[Any],
        build: Callable[[Sequence[Any]], list[Any]] = list,
        stream_format: StreamFormat[Any] | None = None,
        *,
        age_key: Callable[[Any], str] | None = None,
        item_type: Any = None,
    ) -> Pager[Any]:
        """A lazy list from its first request. ``build`` makes items of a page's entries.

        ``age_key`` identifies an entry, where new ones come last. ``item_type`` is what ``build``
        makes.
        """
        spec = ListSpec(request, build, stream_format, age_key, item_type)
        return Pager(self._context, spec)


class GroupAttribute(Generic[G]):
    """An attribute of the session that imports an API and makes its group on first use.

    On the session's class it is the group's class, so that mocks and tools find its methods.
    """

    def __init__(self, api: str, group: str) -> None:
        self._api = api
        self._group = group

    def __set_name__(self, _: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, session: None, owner: type, /) -> Callable[[ListContext], G]: ...
    @overload
    def __get__(self, session: object, owner: type, /) -> G: ...
    def __get__(self, session: object, owner: type, /) -> Callable[[ListContext], G] | G:
        group_type: Callable[[ListContext], G] = getattr(load_api(self._api), self._group)
        if session is None:
            return group_type
        attributes = vars(session)
        group = attributes[self._name] = group_type(attributes["_context"])  # a cache
        return group
