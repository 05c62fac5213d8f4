"""The iModels API: the caller's favorites, and the iModels used last."""

from collections.abc import Iterable
from typing import Final

from itwin_async.emulator._api.imodels import (
    IMODEL,
    find_imodel,
    itwin_of_query,
    page_of_imodels,
)
from itwin_async.emulator._api.request import Request
from itwin_async.emulator._response import Response
from itwin_async.emulator._state.imodels import IModel

_MOST_RECENTS: Final = 25


def list_favorites(request: Request) -> Response:
    """The favorites in an iTwin."""
    return _list(request, request.state.favorites[request.user.id], None)


def add_favorite(request: Request) -> Response:
    """Make an iModel a favorite."""
    request.state.favorites[request.user.id].setdefault(find_imodel(request).id)
    return Response(status=204)


def remove_favorite(request: Request) -> Response:
    """Make an iModel no favorite; it need not have been one."""
    request.state.favorites[request.user.id].pop(find_imodel(request).id, None)
    return Response(status=204)


def list_recents(request: Request) -> Response:
    """The iModels used last in an iTwin, the newest first."""
    return _list(request, reversed(request.state.recents[request.user.id]), _MOST_RECENTS)


def add_recent(request: Request) -> Response:
    """Make an iModel the one that was used last."""
    recents, id = request.state.recents[request.user.id], find_imodel(request).id
    recents.pop(id, None)
    recents[id] = None
    return Response(status=204)


def remove_recent(request: Request) -> Response:
    """Forget that an iModel was used."""
    request.state.recents[request.user.id].pop(find_imodel(request).id, None)
    return Response(status=204)


def _list(request: Request, ids: Iterable[str], most: int | None) -> Response:
    invalid = IMODEL.invalid_request("Cannot get iModels.")
    itwin = itwin_of_query(request, invalid)
    imodels = request.state.imodels
    known: list[IModel] = [imodels[id] for id in ids if id in imodels]  # a deleted one is gone
    found = [imodel for imodel in known if imodel.itwin_id == itwin["id"]]
    return page_of_imodels(request, found[:most], invalid)
