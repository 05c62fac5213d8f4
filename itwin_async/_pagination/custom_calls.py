"""Calls and lists that the library has no method for: methods of the session."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar, cast, overload

from itwin_async._core.custom_request import custom_request
from itwin_async._core.headers import ResponseHeaders
from itwin_async._core.operation import Method, QueryValue, Request
from itwin_async._core.secrets import SecretStr, SecretValue
from itwin_async._core.validation import check_flag
from itwin_async._http.answered import Answered
from itwin_async._http.body import LiveBody, read_whole
from itwin_async._http.executor import RequestExecutor
from itwin_async._pagination.custom_page import custom_page
from itwin_async._pagination.list_context import ListContext
from itwin_async._pagination.list_spec import ListSpec
from itwin_async._pagination.pager import Pager

T = TypeVar("T")


class CustomCalls:
    """The part of `ITwinSession` that takes any path."""

    _executor: RequestExecutor
    _context: ListContext

    @overload
    async def request(
        self,
        method: Method,
        path: str,
        *,
        query: Mapping[str, QueryValue] | None = None,
        body: object = None,
        version: str = "v1",
        returns: None = None,
        headers: Mapping[str, str] | None = None,
        full: Literal[False] = False,
    ) -> Any: ...
    @overload
    async def request(
        self,
        method: Method,
        path: str,
        *,
        query: Mapping[str, QueryValue] | None = None,
        body: object = None,
        version: str = "v1",
        returns: type[T],
        headers: Mapping[str, str] | None = None,
        full: Literal[False] = False,
    ) -> T: ...
    @overload
    async def request(
        self,
        method: Method,
        path: str,
        *,
        query: Mapping[str, QueryValue] | None = None,
        body: object = None,
        version: str = "v1",
        returns: None = None,
        headers: Mapping[str, str] | None = None,
        full: Literal[True],
    ) -> Answered[Any]: ...
    @overload
    async def request(
        self,
        method: Method,
        path: str,
        *,
        query: Mapping[str, QueryValue] | None = None,
        body: object = None,
        version: str = "v1",
        returns: type[T],
        headers: Mapping[str, str] | None = None,
        full: Literal[True],
    ) -> Answered[T]: ...
    async def request(
        self,
        method: Method,
        path: str,
        *,
        query: Mapping[str, QueryValue] | None = None,
        body: object = None,
        version: str = "v1",
        returns: Any = None,
        headers: Mapping[str, str] | None = None,
        full: bool = False,
    ) -> Any:
        """Call an operation that has no method here yet, with the same token, limiter and retries.

        ``path`` is on the session's base and is sent as it is written; ``query`` is encoded;
        ``body`` becomes JSON; ``version`` is the API's, ``v1`` or ``v2``. Returns the decoded JSON,
        or an instance of ``returns`` (``bytes`` is the body as it is), or None for an empty
        response without ``returns``; with ``full`` an `Answered` with status and headers around it.

        ``headers`` are sent as well, in place of those of the session and of the library's own, but
        for ``Authorization``, which is refused. A failure is raised, also with ``full``. Raises
        `ValueError` for a path on another origin.

        Example::

            extensions = await itwin.request("GET", "/extensions/", query={"$top": 1})
            print(extensions["extensions"][0]["name"])

            answer = await itwin.request("GET", "/itwins/myprimaryaccount", full=True)
            print(answer.status, answer.headers["Content-Type"], answer.data["iTwin"]["id"])
        """
        path, given = _secret_path(path), SecretValue(headers)
        del headers
        check_flag("full", full)
        request = self._custom_request(method, path, query, body, version, returns, given)

        async def decode(response: LiveBody) -> Any:
            content = await read_whole(response)
            data: Any = None
            if content or returns is not None:
                data = request.operation.decode(content, response)
            if not full:
                return data
            shown = ResponseHeaders(response.headers)
            return Answered(response.status, shown, response.request_id, data)

        return await self._executor.execute(request, decode)

    @overload
    def list(
        self,
        path: str,
        *,
        items: str,
        query: Mapping[str, QueryValue] | None = None,
        headers: Mapping[str, str] | None = None,
        version: str = "v1",
    ) -> Pager[dict[str, Any]]: ...
    @overload
    def list(
        self,
        path: str,
        *,
        items: str,
        returns: type[T],
        query: Mapping[str, QueryValue] | None = None,
        headers: Mapping[str, str] | None = None,
        version: str = "v1",
    ) -> Pager[T]: ...
    def list(
        self,
        path: str,
        *,
        items: str,
        returns: Any = dict,
        query: Mapping[str, QueryValue] | None = None,
        headers: Mapping[str, str] | None = None,
        version: str = "v1",
    ) -> Pager[Any]:
        """A list that has no method here yet, with the paging and cursors of any other `Pager`.

        ``items`` is the key of the list in a response, such as ``"iTwins"``; a response without it
        is a `DecodeError`. Each item becomes an instance of ``returns``, a struct or any type that
        msgspec decodes to. The next page is where ``_links.next`` leads, or ``@odata.nextLink``.
        ``path``, ``query``, ``headers`` and ``version`` are as for `request`. Raises `TypeError` or
        `ValueError` at once for what cannot be used.

        Example::

            projects = itwin.list("/itwins/", items="iTwins", query={"subClass": "Project"})
            async for project in projects.take(10):
                print(project["displayName"])
        """
        path, given = _secret_path(path), SecretValue(headers)
        del headers
        item_type = dict if returns is None else returns
        page = custom_page(items, item_type)
        request = self._custom_request("GET", path, query, None, version, page, given)
        return Pager(self._context, ListSpec(request, _items, item_type=item_type))

    def _custom_request(  # noqa: PLR0917 - the arguments of `request`
        self,
        method: Method,
        path: str,
        query: Mapping[str, QueryValue] | None,
        body: object,
        version: str,
        returns: Any,
        headers: SecretValue,
    ) -> Request[Any]:
        executor = self._executor
        return custom_request(
            executor.base, method, path, query, body, version, returns, headers, executor.headers
        )


def _items(entries: Sequence[Any]) -> list[Any]:
    return list(entries)


def _secret_path(path: str) -> str:
    """The path, which may be a signed URL by mistake, while errors show the locals of frames."""
    return SecretStr(path) if isinstance(cast("object", path), str) else path
