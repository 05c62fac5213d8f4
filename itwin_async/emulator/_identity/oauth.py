"""What all endpoints of OAuth 2.0 have in common: forms, and errors as RFC 6749 has them."""

from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qs

from itwin_async.emulator._response import Response
from itwin_async.emulator._state.seed import JSON

NO_STORE: Final = {"Cache-Control": "no-store", "Pragma": "no-cache"}


class OAuthError(Exception):
    """An error of an endpoint; ``code`` is one of RFC 6749."""

    def __init__(
        self,
        code: str,
        description: str | None = None,
        *,
        status: int = 400,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(code)
        self.code = code
        self.description = description
        self.status = status
        self.headers: Mapping[str, str] = headers or {}

    @property
    def response(self) -> Response:
        """The error as JSON."""
        body: JSON = {"error": self.code}
        if self.description is not None:
            body["error_description"] = self.description
        return Response(status=self.status, json=body, headers={**NO_STORE, **self.headers})


def read_form(body: bytes) -> dict[str, str]:
    """The fields of a form; the first of several values counts."""
    pairs = parse_qs(body.decode("latin-1"), keep_blank_values=True)
    return {name: values[0] for name, values in pairs.items()}


def require(form: Mapping[str, str], name: str) -> str:
    """A field that must be there, or ``invalid_request``."""
    value = form.get(name)
    if not value:
        raise OAuthError("invalid_request", f"{name} is missing")
    return value
