"""iModels of an iTwin."""

from collections.abc import Sequence
from datetime import datetime
from types import NoneType
from typing import Any, ClassVar, Final, Literal, TypeAlias

import msgspec

from itwin_async._core.operation import Operation, without_none
from itwin_async._core.records import Link, Record, assume_utc
from itwin_async._core.validation import Id, check_text, check_type, quote_segment
from itwin_async._pagination.operation_group import OperationGroup
from itwin_async._pagination.page_types import LinkedPage
from itwin_async._pagination.pager import Pager
from itwin_async.imodels.lists import check_page_size, joined_order, prefer

LONGEST_TEXT: Final = 255  # characters of a name or a description
IModelState: TypeAlias = Literal["initialized", "notInitialized"]
IModelOrder: TypeAlias = Literal[
    "name", "name asc", "name desc", "createdDateTime", "createdDateTime asc",
    "createdDateTime desc",
]  # fmt: skip
_Rings: TypeAlias = tuple[tuple[tuple[float, float], ...], ...]


class Point(Record, frozen=True, kw_only=True):
    """A place on earth, in degrees."""

    latitude: float
    longitude: float

    _repr_fields: ClassVar = ("latitude", "longitude")


class Extent(Record, frozen=True, kw_only=True):
    """The area an iModel covers."""

    south_west: Point
    north_east: Point

    _repr_fields: ClassVar = ("south_west", "north_east")


class IModelLinks(Record, frozen=True, kw_only=True):
    """Links of an iModel.

    ``upload`` (signed) and ``complete`` are there where it was created to get a baseline file.
    """

    creator: Link | None = None
    changesets: Link | None = None
    named_versions: Link | None = None
    upload: Link | None = None
    complete: Link | None = None

    _repr_fields: ClassVar = ("creator", "changesets", "named_versions")
    _signed: ClassVar = ("upload",)


class IModel(Record, frozen=True, kw_only=True):
    """An iModel. A list always has ``id`` and ``display_name``, the rest by representation."""

    id: str
    display_name: str | None = None
    name: str | None = None
    description: str | None = None
    state: str | None = None
    itwin_id: str | None = None
    data_center_location: str | None = None
    created_date_time: datetime | None = None
    last_changeset_push_date_time: datetime | None = None
    is_secured: bool | None = None
    extent: Extent | None = None
    containers_enabled: int | None = None
    links: IModelLinks | None = None

    _repr_fields: ClassVar = ("display_name", "id", "state")

    def __post_init__(self) -> None:
        assume_utc(self, "created_date_time", "last_changeset_push_date_time")

    @property
    def __geo_interface__(self) -> dict[str, Any]:
        """The extent as a GeoJSON polygon, for shapely, geopandas and others that read maps.

        It is an empty polygon without an extent (lists have it by ``representation`` only), and two
        polygons where the extent crosses the 180th meridian. Positions are longitude and latitude
        in degrees (EPSG:4326).
        """
        if self.extent is None:
            return {"type": "Polygon", "coordinates": ()}
        west, south = self.extent.south_west.longitude, self.extent.south_west.latitude
        east, north = self.extent.north_east.longitude, self.extent.north_east.latitude
        if west <= east:
            return {"type": "Polygon", "coordinates": _box(west, south, east, north)}
        boxes = (_box(west, south, 180.0, north), _box(-180.0, south, east, north))
        return {"type": "MultiPolygon", "coordinates": boxes}


def _box(west: float, south: float, east: float, north: float) -> _Rings:
    """A rectangle as the rings of a GeoJSON polygon: one, closed, and counterclockwise."""
    return (((west, south), (east, south), (east, north), (west, north), (west, south)),)


class IModelPage(LinkedPage[IModel]):
    """A page of iModels."""

    imodels: list[IModel] = msgspec.field(name="iModels")


class IModelBody(msgspec.Struct):
    """The response with one iModel."""

    imodel: IModel = msgspec.field(name="iModel")


LIST_IMODELS: Final = Operation("GET", "/imodels/", IModelPage, version="v2")
GET_IMODEL: Final = Operation("GET", "/imodels/{imodel_id}", IModelBody, version="v2")
UPDATE_IMODEL: Final = Operation("PATCH", "/imodels/{imodel_id}", IModelBody, version="v2")
DELETE_IMODEL: Final = Operation("DELETE", "/imodels/{imodel_id}", NoneType, version="v2")


class IModelOperations(OperationGroup):
    """Operations on iModels."""

    def list_imodels(
        self,
        itwin_id: Id,
        *,
        search: str | None = None,
        name: str | None = None,
        state: IModelState | None = None,
        order_by: IModelOrder | Sequence[IModelOrder] | None = None,
        representation: bool = False,
        page_size: int | None = None,
    ) -> Pager[IModel]:
        """iModels of an iTwin.

        ``search`` looks in names and descriptions, ``name`` is the whole name, ``state`` is
        ``initialized`` or ``notInitialized``, ``order_by`` such as ``name asc`` or
        ``createdDateTime desc``, or several of them. ``representation`` asks for all fields.
        ``page_size`` is 100 by default and at most 1,000. Iterating raises `NotFoundError` for an
        unknown iTwin.
        Platform page: https://developer.bentley.com/apis/imodels-v2/operations/get-itwin-imodels/

        Example::

            async for imodel in itwin.imodels.list_imodels(itwin_id, order_by="name asc"):
                print(imodel.id, imodel.display_name)
        """
        quote_segment("itwin_id", itwin_id)
        for argument, value in {"search": search, "name": name, "state": state}.items():
            check_text(argument, value)
        check_page_size(page_size)
        request = LIST_IMODELS.request(
            query={
                "iTwinId": itwin_id,
                "$search": search,
                "name": name,
                "state": state,
                "$orderBy": joined_order(order_by),
                "$top": page_size,
            },
            headers=prefer(representation),
        )
        return self._list(request)

    async def get_imodel(self, imodel_id: Id) -> IModel:
        """One iModel. Raises `NotFoundError` for an unknown one.

        Platform page: https://developer.bentley.com/apis/imodels-v2/operations/get-imodel-details/
        """
        body = await self._call(GET_IMODEL.request(imodel_id=imodel_id))
        return body.imodel

    async def update_imodel(
        self,
        imodel_id: Id,
        *,
        name: str | None = None,
        description: str | None = None,
        extent: Extent | None = None,
    ) -> IModel:
        """Change the name, the description or the extent of an iModel; what is None stays.

        ``name`` and ``description`` have up to 255 characters. Raises `NotFoundError` for an
        unknown iModel, and `ConflictError` where its iTwin has another one of this name.
        Platform page: https://developer.bentley.com/apis/imodels-v2/operations/update-imodel/

        Example::

            imodel = await itwin.imodels.update_imodel(imodel_id, description="As built")
        """
        if name is not None:
            check_text("name", name, optional=False, longest=LONGEST_TEXT)
        check_text("description", description, longest=LONGEST_TEXT)
        check_type("extent", extent, Extent)
        body = without_none(name=name, description=description, extent=extent)
        if not body:
            raise ValueError("give name, description or extent: there is nothing to change")
        answer = await self._call(UPDATE_IMODEL.request(imodel_id=imodel_id, body=body))
        return answer.imodel

    async def delete_imodel(self, imodel_id: Id) -> None:
        """Delete an iModel with its changesets, named versions and all else that belongs to it.

        Raises `NotFoundError` for an unknown iModel.
        Platform page: https://developer.bentley.com/apis/imodels-v2/operations/delete-imodel/

        Example::

            await itwin.imodels.delete_imodel(imodel_id)
        """
        await self._call(DELETE_IMODEL.request(imodel_id=imodel_id))
