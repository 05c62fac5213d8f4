"""A request for an operation that the library does not declare, from unchecked arguments."""

import re
from collections.abc import Mapping
from typing import Any, Final, get_args

import msgspec

from itwin_async._core.headers import check_headers, merge_headers
from itwin_async._core.json import decoder
from itwin_async._core.operation import Method, Operation, QueryValue, Request
from itwin_async._core.redaction import one_line
from itwin_async._core.secrets import SecretStr, SecretValue
from itwin_async._core.urls import Origin, follow
from itwin_async._core.validation import check_choice
from itwin_async.errors import LinkError

_METHODS: Final[tuple[str, ...]] = get_args(Method)
_VERSION: Final = re.compile(r"v[0-9]{1,3}")


def custom_request(  # noqa: PLR0917 - the arguments of `ITwinSession.request`
    base: Origin,
    method: Method,
    path: str,
    query: Mapping[str, QueryValue] | None,
    body: object,
    version: str,
    returns: Any,
    headers: SecretValue,
    session_headers: Mapping[str, str],
) -> Request[Any]:
    """Make a request; `TypeError` or `ValueError` for arguments that cannot be used."""
    check_choice("method", method, _METHODS, optional=False)
    mapping: object = query
    if mapping is not None and not isinstance(mapping, Mapping):
        raise TypeError(f"query must be a mapping, not {type(mapping).__name__}")
    target = _check_path(base, path)
    if not _VERSION.fullmatch(version):
        raise ValueError(f"version must be such as 'v1', not {version!r}")
    if returns is not None and returns is not bytes:
        decoder(returns)
    plain_path, _, own_query = target.partition("?")
    template = plain_path.replace("{", "{{").replace("}", "}}")
    result_type = Any if returns is None else returns
    operation: Operation[Any] = Operation(method, template, result_type, version=version)
    request = operation.request(query=query or {}, body=msgspec.UNSET if body is None else body)
    own_headers = merge_headers(session_headers, check_headers(headers))
    if own_headers:
        request = msgspec.structs.replace(
            request, headers=merge_headers(request.headers, own_headers)
        )
    if own_query:
        separator = "&" if "?" in request.target else "?"
        request = msgspec.structs.replace(request, target=f"{request.target}{separator}{own_query}")
    return request


def _check_path(base: Origin, path: object) -> str:
    """The path and query of ``path``, which may be a URL on ``base``."""
    if not isinstance(path, str):
        raise TypeError(f"path must be a str, not {type(path).__name__}")
    path = SecretStr(path)  # it may be a signed URL, by mistake
    if not path.startswith(("/", "http:", "https:")):
        raise ValueError(
            f"path must be one that starts with '/', such as /edfs/packages/roles, not "
            f"{one_line(path)!r}"
        )
    try:
        return follow(base, "/", path)
    except LinkError as error:
        raise ValueError(
            f"path must be a percent-encoded path on {base}: {error.message}"
        ) from None
