"""What errors advise: which argument or variable to check, and what to pass instead."""

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qsl

from itwin_async._core.operation import Request
from itwin_async._core.redaction import one_line
from itwin_async._core.urls import Origin
from itwin_async.auth import sign_in_host
from itwin_async.errors import ITwinError, NotFoundError, ResponseError, name_missing

_VERSIONS: Final = {"imodels": "v2"}  # of the APIs that are not at v1, by the start of their paths


def for_base(base: Origin) -> str:
    """Where there is no connection to the base of a session."""
    return "" if base.is_platform else "is base_url (ITWIN_BASE_URL) right, and a server there?"


def for_sign_in_host(origin: Origin, base_url: str) -> str:
    """Where there is no connection to a sign-in host."""
    if str(origin) == sign_in_host(base_url):
        return ""
    return (
        "is the token URL or the authority (ITWIN_TOKEN_URL, ITWIN_AUTHORITY) right, and a server "
        "there?"
    )


def explain_refusal(error: ITwinError, host: str, form: Mapping[str, str]) -> None:
    """Let the error of a sign-in host say so, and what to check: the client, or the address.

    ``form`` is what it was asked.
    """
    error.message = f"the sign-in host {host} refused: {error.message}"
    if isinstance(error, ResponseError) and error.code == "invalid_client":
        error.message = f"{error.message.rstrip('.')}: {_client_advice(form)}"
    elif isinstance(error, ResponseError) and error.status in {404, 405}:
        error.message = (
            f"{error.message.rstrip('.')}: check the token URL or the authority (ITWIN_TOKEN_URL, "
            "ITWIN_AUTHORITY)"
        )


def _client_advice(form: Mapping[str, str]) -> str:
    if form.get("grant_type") == "client_credentials":
        return "check the client id and the secret (ITWIN_CLIENT_ID, ITWIN_CLIENT_SECRET)"
    return "check the client id (ITWIN_CLIENT_ID), and the secret if it is one of a Web App"


def advise(error: ResponseError, request: Request[Any]) -> None:
    """Let the error of a response say what it is about, or what to pass instead."""
    path, _, query = request.target.partition("?")
    error.path = one_line(path)
    if isinstance(error, NotFoundError):
        if "{" in request.operation.path:
            return  # the path names it
        ids = [f"{name} {value}" for name, value in parse_qsl(query) if name.endswith("Id")]
        name_missing(error, ", ".join(ids))
    elif error.status == 401:
        error.message = (
            f"{error.message.rstrip('.')}: get another token, this one has expired, was revoked, "
            "or is of another base URL"
        )
    elif error.status == 406:
        asked = request.operation.version
        known = _VERSIONS.get(path.split("/")[1], "v1")
        right = f"version {known}" if known != asked else "the version that its page names"
        error.message = f"{error.message.rstrip('.')}: version {asked} was asked for, pass {right}"
