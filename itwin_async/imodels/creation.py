"""How iModels come into being: empty or from a template; and the wait until they are there."""

from typing import ClassVar, Final

import msgspec

from itwin_async._aio.polling import poll
from itwin_async._core.operation import Operation, without_none
from itwin_async._core.records import Record
from itwin_async._core.redaction import one_line
from itwin_async._core.validation import (
    Id,
    check_count,
    check_flag,
    check_seconds,
    check_text,
    check_type,
    quote_segment,
)
from itwin_async.errors import ITwinError
from itwin_async.imodels.imodels import LONGEST_TEXT, Extent, IModel, IModelBody, IModelOperations

TIMEOUT: Final = 300.0  # seconds that a creation may take, by default
INITIALIZED: Final = "initialized"
_CREATED: Final = "successful"
_UNDER_WAY: Final = frozenset({"waitingForFile", "scheduled"})


class IModelOrigin(Record, frozen=True, kw_only=True):
    """The iModel that another one was cloned or forked from, and its last changeset in it.

    ``changeset_id`` is empty where no changeset was copied; ``relationship_id`` is that of a fork.
    """

    imodel_id: str | None = None
    changeset_id: str | None = None
    relationship_id: str | None = None

    _repr_fields: ClassVar = ("imodel_id", "changeset_id")


class IModelCreation(Record, frozen=True, kw_only=True):
    """How far the creation of an iModel is.

    ``state`` is ``successful``, ``scheduled``, ``waitingForFile``, ``failed``, or
    ``mainIModelIsMissingFederationGuids`` of a fork that cannot be made.
    """

    state: str | None = None
    cloned_from: IModelOrigin | None = None
    forked_from: IModelOrigin | None = None

    _repr_fields: ClassVar = ("state", "cloned_from", "forked_from")


class CreationBody(msgspec.Struct, rename="camel"):
    """The response with the state of a creation."""

    create_operation: IModelCreation


CREATE_IMODEL: Final = Operation("POST", "/imodels", IModelBody, version="v2")
GET_CREATION: Final = Operation(
    "GET", "/imodels/{imodel_id}/operations/create", CreationBody, version="v2"
)


class CreationOperations(IModelOperations):
    """Operations that create iModels."""

    async def create_imodel(
        self,
        itwin_id: Id,
        name: str,
        *,
        description: str | None = None,
        extent: Extent | None = None,
        containers_enabled: int | None = None,
        horizontal_crs_id: str | None = None,
        template_id: str | None = None,
        template_changeset_id: str | None = None,
        wait: bool = True,
        timeout: float = TIMEOUT,  # noqa: ASYNC109 - its error says what the state was
    ) -> IModel:
        """Create an iModel in an iTwin: empty, or with what another one contains.

        ``name`` and ``description`` have up to 255 characters; the name is unique in the iTwin.
        ``containers_enabled`` is a sum of flags: 1 schema synchronization, 2 code store, 4 view
        store. ``horizontal_crs_id`` names the coordinate system of an empty iModel.
        ``template_id`` is an iModel whose content the new one begins with, up to
        ``template_changeset_id`` where given, merged into its baseline.

        With ``wait`` it returns once the iModel is initialized, as `wait_until_created` does within
        ``timeout`` seconds; else at once. Raises `ConflictError` where the iTwin has an iModel of
        this name, `NotFoundError` for an unknown iTwin or template, and `ForbiddenError` without
        the permission. Not sent again where its outcome is unknown: see what `list_imodels` returns
        for the name.
        Platform page: https://developer.bentley.com/apis/imodels-v2/operations/create-imodel/

        Example::

            imodel = await itwin.imodels.create_imodel(itwin_id, "Bridge", description="Draft")
            print(imodel.id, imodel.state)
        """
        if template_id is None and template_changeset_id is not None:
            raise ValueError("template_changeset_id needs template_id")
        if template_id is not None and horizontal_crs_id is not None:
            raise ValueError("horizontal_crs_id is for an empty iModel: leave out template_id")
        for argument, value in {
            "horizontal_crs_id": horizontal_crs_id,
            "template_id": template_id,
            "template_changeset_id": template_changeset_id,
        }.items():
            check_text(argument, value, optional=value is None)
        check_text("name", name, optional=False)
        body = new_imodel(itwin_id, name, description, extent, containers_enabled)
        if template_id is None:
            body["creationMode"] = "empty"
        else:
            body["creationMode"] = "fromiModelVersion"
            body["template"] = without_none(iModelId=template_id, changesetId=template_changeset_id)
        if horizontal_crs_id is not None:
            body["geographicCoordinateSystem"] = {"horizontalCRSId": horizontal_crs_id}
        check_wait(wait, timeout)
        imodel = (await self._call(CREATE_IMODEL.request(body=body))).imodel
        if imodel.state == INITIALIZED or not wait:
            return imodel
        return await self.wait_until_created(imodel.id, timeout=timeout)

    async def get_creation(self, imodel_id: Id) -> IModelCreation:
        """How far the creation of an iModel is. Raises `NotFoundError` for an unknown one.

        Platform page: https://developer.bentley.com/apis/imodels-v2/operations/get-create-imodel-operation-details/

        Example::

            creation = await itwin.imodels.get_creation(imodel_id)
            print(creation.state)
        """
        answer = await self._call(GET_CREATION.request(imodel_id=imodel_id))
        return answer.create_operation

    async def wait_until_created(
        self,
        imodel_id: Id,
        *,
        timeout: float = TIMEOUT,  # noqa: ASYNC109 - its error says what the state was
    ) -> IModel:
        """Wait until the creation of an iModel has ended; the iModel.

        Asks at once, after a second, and at growing intervals of up to 10 seconds. Raises
        `ITwinError` where the creation failed, `TimeoutError` after ``timeout`` seconds (the
        creation goes on, and can be waited for again), and what `get_creation` raises.
        Platform page: https://developer.bentley.com/apis/imodels-v2/operations/get-create-imodel-operation-details/

        Example::

            imodel = await itwin.imodels.create_imodel(itwin_id, "Bridge", wait=False)
            imodel = await itwin.imodels.wait_until_created(imodel.id, timeout=60.0)
        """
        check_seconds("timeout", timeout, finite=False)
        quote_segment("imodel_id", imodel_id)

        def is_created(creation: IModelCreation) -> bool:
            if creation.state != _CREATED and creation.state not in _UNDER_WAY:
                raise _creation_error(str(imodel_id), creation.state)
            return creation.state == _CREATED

        await poll(
            lambda: self.get_creation(imodel_id),
            is_created,
            timeout=timeout,
            what=f"iModel {imodel_id} was not created",
            state_of=lambda creation: one_line(f"its state is {creation.state}"),
        )
        return await self.get_imodel(imodel_id)


def new_imodel(
    itwin_id: Id,
    name: str | None,
    description: str | None,
    extent: Extent | None,
    containers_enabled: int | None,
) -> dict[str, object]:
    """The properties that every way to create an iModel takes, checked, as a body."""
    quote_segment("itwin_id", itwin_id)
    if name is not None:
        check_text("name", name, optional=False, longest=LONGEST_TEXT)
    check_text("description", description, longest=LONGEST_TEXT)
    check_type("extent", extent, Extent)
    check_count("containers_enabled", containers_enabled, least=0, optional=True)
    return without_none(
        iTwinId=itwin_id,
        name=name,
        description=description,
        extent=extent,
        containersEnabled=containers_enabled,
    )


def check_wait(wait: object, timeout: object) -> None:
    """`TypeError` or `ValueError` for what no wait for a creation can have."""
    check_flag("wait", wait)
    check_seconds("timeout", timeout, finite=False)


def _creation_error(imodel_id: str, state: str | None) -> ITwinError:
    message = one_line(f"iModel {imodel_id} was not created: its state is {state}")
    if state == "mainIModelIsMissingFederationGuids":
        message += ", since elements of the original have no FederationGuid"
    error = ITwinError(message)
    error.operation = str(GET_CREATION)
    return error
