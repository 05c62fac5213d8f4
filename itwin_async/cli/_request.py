"""``itwin-async request``."""

from contextlib import aclosing
from pathlib import Path
from typing import Annotated, Literal, TypeAlias, cast

import msgspec
from cyclopts import Parameter

from itwin_async import DecodeError, ITwinSession, LinkError
from itwin_async._core.redaction import one_line
from itwin_async.cli._meter import CommandSession, Meter
from itwin_async.cli._options import DEFAULTS, Flag, Options, pairs
from itwin_async.cli._output import write_file, write_json, write_json_line
from itwin_async.cli._progress import progress
from itwin_async.cli._session import with_session
from itwin_async.cli._stdio import read_stdin

_Method: TypeAlias = Literal["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"]


def request(
    method: str,
    path: str,
    /,
    *,
    query: Annotated[list[str] | None, Parameter(negative="")] = None,
    body: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    version: str = "v1",
    output: Path | None = None,
    paginate: Flag = False,
    items: str | None = None,
    options: Options = DEFAULTS,
) -> None:
    """Send any request to the platform, with its token, limits and retries; print the JSON.

    Example: itwin-async request GET /itwins/myprimaryaccount --emulator

    Args:
        method: GET, POST, PUT, PATCH, DELETE or HEAD.
        path: Its path, such as /itwins/myprimaryaccount.
        query: NAME=VALUE; may be repeated.
        body: JSON, or @FILE, or - for standard input.
        version: Version of the API: v1 or v2.
        output: File to write the response's bytes to.
        paginate: Follow the links of a list, and print each item of all pages as a line of JSON.
        items: Key of the list, where a response has several.
        options: See `Options`.
    """
    parameters, content = pairs("--query", query or ()), _decode_body(body)
    if items is not None and not paginate:
        raise ValueError("--items is for --paginate")
    if paginate:
        if method.upper() != "GET" or body is not None or output is not None:
            raise ValueError("--paginate is for GET, without --body and --output")
        _print_items(options, path, parameters, version, items)
        return

    async def work(session: ITwinSession) -> bytes:
        return await session.request(
            cast("_Method", method.upper()),
            path,
            query=parameters,
            body=content,
            version=version,
            returns=bytes,
        )

    data = with_session(options, work)
    if output is not None:
        write_file(output, data)
    elif data:
        write_json(options, data)


def _print_items(
    options: Options, path: str, query: dict[str, str], version: str, key: str | None
) -> None:
    """Print the items of a list as lines. Its key, where it is not given, is in the first page."""

    async def first_page(session: ITwinSession) -> dict[str, msgspec.Raw]:
        return await session.request(
            "GET", path, query=query, version=version, returns=dict[str, msgspec.Raw]
        )

    async def work(session: CommandSession) -> None:
        meter = Meter("items")

        def write(item: msgspec.Raw) -> None:
            write_json_line(bytes(item))
            meter.count += 1

        with progress(session, "items", meter, prints_lines=True):
            items, rest, parameters = key, path, query
            if items is None:
                page = await first_page(session)
                items = _key_of_list(page)
                for item in msgspec.json.decode(page[items], type=list[msgspec.Raw]):
                    write(item)
                following = _next_link(page, path)
                if following is None:
                    return
                rest, parameters = following, {}
            try:
                pager = session.list(
                    rest, items=items, returns=msgspec.Raw, query=parameters, version=version
                )
            except ValueError as error:
                if rest is path:
                    raise
                raise LinkError(f"the next link of the first page is refused: {error}") from None
            async with aclosing(aiter(pager)) as found:
                try:
                    async for item in found:
                        write(item)
                except DecodeError:
                    if key is not None and not meter.count:
                        _check_key(await first_page(session), key)
                    raise

    with_session(options, work)


def _key_of_list(page: dict[str, msgspec.Raw]) -> str:
    """The key of the one list of an envelope."""
    keys = _lists_of(page)
    if len(keys) == 1:
        return keys[0]
    if not keys:
        raise ValueError("--paginate is for lists: the response has none at its top level")
    names = one_line(", ".join(keys))
    raise ValueError(f"--paginate needs --items, for the response has several lists: {names}")


def _check_key(page: dict[str, msgspec.Raw], key: str) -> None:
    """`ValueError` where an envelope has no list under this key."""
    keys = _lists_of(page)
    if key not in keys:
        names = one_line(", ".join(keys)) or "none at its top level"
        raise ValueError(f"--items {key} is no list of the response, which has {names}")


def _lists_of(page: dict[str, msgspec.Raw]) -> list[str]:
    return sorted(name for name, value in page.items() if bytes(value).startswith(b"["))


class _Href(msgspec.Struct):
    href: str | None = None


class _Links(msgspec.Struct):
    next: _Href | None = None


def _next_link(page: dict[str, msgspec.Raw], path: str) -> str | None:
    """Where the second page is; None where there is none."""
    decode = msgspec.json.decode
    try:
        links = decode(page.get("_links", b"null"), type=_Links | None)
        link = decode(page.get("@odata.nextLink", b"null"), type=str | None)
    except msgspec.ValidationError:
        raise LinkError("the next link of a page is not a URL") from None
    if links is not None:
        link = None if links.next is None else links.next.href
    if link is not None and link.startswith("?"):
        return path.partition("?")[0] + link
    return link


def _decode_body(argument: str | None) -> object:
    if argument is None:
        return None
    text = argument
    try:
        if argument == "-":
            text = read_stdin()
        elif argument.startswith("@"):
            text = Path(argument[1:]).read_text(encoding="utf-8-sig")
        return msgspec.json.decode(text)
    except UnicodeError:
        raise ValueError("--body is not UTF-8 text") from None
    except msgspec.DecodeError as error:
        raise ValueError(f"--body is no JSON: {error}") from None
