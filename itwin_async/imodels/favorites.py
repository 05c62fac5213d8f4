"""The iModels that the caller marked as favorites, and those used last."""

from types import NoneType
from typing import Final

from itwin_async._core.operation import Operation
from itwin_async._core.validation import Id, quote_segment
from itwin_async._pagination.operation_group import OperationGroup
from itwin_async._pagination.pager import Pager
from itwin_async.imodels.imodels import IModel, IModelPage
from itwin_async.imodels.lists import check_page_size, prefer

LIST_FAVORITES: Final = Operation("GET", "/imodels/favorites", IModelPage, version="v2")
ADD_FAVORITE: Final = Operation("PUT", "/imodels/favorites/{imodel_id}", NoneType, version="v2")
REMOVE_FAVORITE: Final = Operation(
    "DELETE", "/imodels/favorites/{imodel_id}", NoneType, version="v2"
)
LIST_RECENTS: Final = Operation("GET", "/imodels/recents", IModelPage, version="v2")
ADD_RECENT: Final = Operation("POST", "/imodels/recents/{imodel_id}", NoneType, version="v2")
REMOVE_RECENT: Final = Operation("DELETE", "/imodels/recents/{imodel_id}", NoneType, version="v2")


class FavoriteOperations(OperationGroup):
    """Operations on the caller's favorites and recently used iModels."""

    def list_favorites(
        self, itwin_id: Id, *, representation: bool = False, page_size: int | None = None
    ) -> Pager[IModel]:
        """The iModels of an iTwin that are the caller's favorites.

        ``representation`` asks for all fields. ``page_size`` is 100 by default and at most 1,000.
        Iterating raises `NotFoundError` for an unknown iTwin.
        Platform page: https://developer.bentley.com/apis/imodels-v2/operations/get-my-favorite-imodels/

        Example::

            favorites = [imodel async for imodel in itwin.imodels.list_favorites(itwin_id)]
        """
        return self._list_mine(LIST_FAVORITES, itwin_id, representation, page_size)

    async def add_favorite(self, imodel_id: Id) -> None:
        """Make an iModel one of the caller's favorites. Raises `NotFoundError` for an unknown one.

        Platform page: https://developer.bentley.com/apis/imodels-v2/operations/add-imodel-to-my-favorites/

        Example::

            await itwin.imodels.add_favorite(imodel_id)
        """
        await self._call(ADD_FAVORITE.request(imodel_id=imodel_id))

    async def remove_favorite(self, imodel_id: Id) -> None:
        """Take an iModel from the caller's favorites. Raises `NotFoundError` for an unknown one.

        Platform page: https://developer.bentley.com/apis/imodels-v2/operations/remove-imodel-from-my-favorites/

        Example::

            await itwin.imodels.remove_favorite(imodel_id)
        """
        await self._call(REMOVE_FAVORITE.request(imodel_id=imodel_id))

    def list_recents(
        self, itwin_id: Id, *, representation: bool = False, page_size: int | None = None
    ) -> Pager[IModel]:
        """The iModels of an iTwin that the caller used last, the newest first, at most 25.

        ``representation`` asks for all fields. Iterating raises `NotFoundError` for an unknown
        iTwin.
        Platform page: https://developer.bentley.com/apis/imodels-v2/operations/get-my-recently-used-imodels/

        Example::

            recents = [imodel async for imodel in itwin.imodels.list_recents(itwin_id)]
        """
        return self._list_mine(LIST_RECENTS, itwin_id, representation, page_size)

    async def add_recent(self, imodel_id: Id) -> None:
        """Note that the caller used an iModel now. Raises `NotFoundError` for an unknown one.

        Platform page: https://developer.bentley.com/apis/imodels-v2/operations/add-imodel-to-my-recents/

        Example::

            await itwin.imodels.add_recent(imodel_id)
        """
        await self._call(ADD_RECENT.request(imodel_id=imodel_id, body={}))

    async def remove_recent(self, imodel_id: Id) -> None:
        """Forget that the caller used an iModel. Raises `NotFoundError` for an unknown one.

        Platform page: https://developer.bentley.com/apis/imodels-v2/operations/remove-imodel-from-my-recents/

        Example::

            await itwin.imodels.remove_recent(imodel_id)
        """
        await self._call(REMOVE_RECENT.request(imodel_id=imodel_id))

    def _list_mine(
        self,
        operation: Operation[IModelPage],
        itwin_id: Id,
        representation: bool,  # noqa: FBT001 - as the lists have it
        page_size: int | None,
    ) -> Pager[IModel]:
        quote_segment("itwin_id", itwin_id)
        check_page_size(page_size)
        query = {"iTwinId": itwin_id, "$top": page_size}
        return self._list(operation.request(query=query, headers=prefer(representation)))
