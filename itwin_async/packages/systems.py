"""External systems that packages read from, with credentials that are never returned."""

from collections.abc import Mapping
from datetime import datetime
from types import NoneType
from typing import ClassVar, Final

from itwin_async._core.operation import Operation
from itwin_async._core.records import Record, assume_utc
from itwin_async._core.secrets import SecretDict, SecretValue
from itwin_async._core.validation import Id, check_text
from itwin_async._pagination.operation_group import OperationGroup
from itwin_async._pagination.page_types import SinglePage
from itwin_async._pagination.pager import Pager


class ExternalSystem(Record, frozen=True, kw_only=True):
    """A system that packages read from. ``system_type`` is such as ``EDF.Sql``."""

    id: str | None = None
    system_name: str | None = None
    system_id: str | None = None
    system_type: str | None = None
    organization_id: str | None = None
    last_change: datetime | None = None
    last_change_by: str | None = None
    last_change_by_name: str | None = None

    _repr_fields: ClassVar = ("system_name", "id", "system_type")

    def __post_init__(self) -> None:
        assume_utc(self, "last_change")


class SystemPage(SinglePage[ExternalSystem]):
    """All systems of an iTwin, in one response."""

    systems: list[ExternalSystem]


LIST_SYSTEMS: Final = Operation("GET", "/edfs/itwins/{itwin_id}/systems", SystemPage)
CREATE_SYSTEM: Final = Operation("POST", "/edfs/itwins/{itwin_id}/systems", ExternalSystem)
DELETE_SYSTEM: Final = Operation("DELETE", "/edfs/itwins/{itwin_id}/systems/{id}", NoneType)


class SystemOperations(OperationGroup):
    """Operations on external systems."""

    def list_systems(self, itwin_id: Id) -> Pager[ExternalSystem]:
        """The external systems of an iTwin, in one page, without their credentials.

        Iterating raises `NotFoundError` for an unknown iTwin.
        Platform page: https://developer.bentley.com/apis/edfs/operations/credentials-sets-get/

        Example::

            systems = [system async for system in itwin.packages.list_systems(itwin_id)]
        """
        return self._list(LIST_SYSTEMS.request(itwin_id=itwin_id))

    async def create_system(
        self,
        itwin_id: Id,
        name: str,
        *,
        system_id: str,
        system_type: str,
        credentials: Mapping[str, str],
    ) -> ExternalSystem:
        """Add an external system with its credentials, whose keys depend on the type of system.

        Values are text, also numbers and truth values (``"false"``). Raises `ConflictError` where
        there is such a system, `InvalidRequestError` for credentials that do not fit, and
        `ForbiddenError` without the permission. Not sent again where its outcome is unknown.
        Platform page: https://developer.bentley.com/apis/edfs/operations/credentials-set-post/

        Example::

            system = await itwin.packages.create_system(
                itwin_id, "Customers", system_id="dev_sql_server", system_type="EDF.Sql",
                credentials={"Server": "db.example.com", "User": "reader", "Password": "secret"},
            )
        """
        secret = SecretValue(credentials)
        del credentials  # errors show the locals of their frames
        texts = {"name": name, "system_id": system_id, "system_type": system_type}
        for argument, value in texts.items():
            check_text(argument, value, optional=False)
        body = {
            "name": name,
            "systemId": system_id,
            "systemType": system_type,
            "credentials": _check_credentials(secret),
        }
        return await self._call(CREATE_SYSTEM.request(itwin_id=itwin_id, body=body))

    async def delete_system(self, itwin_id: Id, id: Id) -> None:
        """Delete an external system; ``id`` is its ``id``, not its ``system_id``.

        Raises `NotFoundError` for an unknown one, and `ForbiddenError` without the permission.
        Platform page: https://developer.bentley.com/apis/edfs/overview/

        Example::

            async for system in itwin.packages.list_systems(itwin_id):
                await itwin.packages.delete_system(itwin_id, system.id)
        """
        await self._call(DELETE_SYSTEM.request(itwin_id=itwin_id, id=id))


def _check_credentials(credentials: SecretValue) -> SecretDict:
    if not issubclass(type(credentials.value), Mapping):  # `isinstance` would make it unknown
        raise TypeError(f"credentials must be a mapping, not {type(credentials.value).__name__}")
    checked = SecretDict(credentials.value)
    for name in checked:
        check_text("a name of credentials", name, optional=False)
        if not isinstance(checked[name], str):
            raise TypeError(f"{name} of credentials must be a str: the platform takes text alone")
    return checked
