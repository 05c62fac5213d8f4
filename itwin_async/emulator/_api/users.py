"""The Users API: who the caller is."""

from itwin_async.emulator._api.request import Request
from itwin_async.emulator._response import Response


def get_me(request: Request) -> Response:
    """The caller."""
    return Response(json={"user": request.user.to_json()})
