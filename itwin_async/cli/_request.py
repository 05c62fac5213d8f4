"""``itwin-async request``."""

from pathlib import Path
from typing import Annotated, Literal, TypeAlias, cast

import msgspec
from cyclopts import Parameter

from itwin_async import ITwinSession
from itwin_async.cli._options import DEFAULTS, Options, pairs
from itwin_async.cli._output import write_file, write_json
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
    options: Options = DEFAULTS,
) -> None:
    """Send any request to the platform, with its token, limits and retries; print the JSON.

    Args:
        method: GET, POST, PUT, PATCH, DELETE or HEAD.
        path: Its path, such as /itwins/myprimaryaccount.
        query: NAME=VALUE; may be repeated.
        body: JSON, or @FILE, or - for standard input.
        version: Version of the API: v1 or v2.
        output: File to write the response's bytes to.
        options: See `Options`.
    """
    parameters, content = pairs("--query", query or ()), _decode_body(body)

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
