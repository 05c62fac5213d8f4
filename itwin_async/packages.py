"""The Enterprise Data Federation Service: integration packages an organization subscribed to."""

from datetime import datetime
from typing import ClassVar, Final

from itwin_async._exchange import Exchange
from itwin_async._operation import Operation
from itwin_async._pages import Listing, SinglePage
from itwin_async._paging import Pager
from itwin_async._records import Record, make_aware


class IntegrationPackage(Record, frozen=True, kw_only=True):
    """An integration package. ``project_stage`` is Preview, Current or Obsolete, so far.

    ``input_example``, ``response_example`` (JSON text) and ``last_change`` come with one package,
    not with the list.
    """

    unique_name: str | None = None
    name: str | None = None
    description: str | None = None
    version: str | None = None
    project_stage: str | None = None
    is_odata: bool | None = None
    subscription_id: str | None = None
    subscribed_by: str | None = None
    subscribed_by_name: str | None = None
    subscribed_on: datetime | None = None
    last_change: datetime | None = None
    input_example: str | None = None
    response_example: str | None = None

    _shown: ClassVar = ("unique_name", "name", "version", "project_stage")

    def __post_init__(self) -> None:
        make_aware(self, "subscribed_on", "last_change")


class PackagePage(SinglePage[IntegrationPackage]):
    """All packages, in one answer."""

    packages: list[IntegrationPackage]

    def entries(self) -> list[IntegrationPackage]:
        """The packages."""
        return self.packages


LIST_PACKAGES: Final = Operation("GET", "/edfs/packages", PackagePage)
GET_PACKAGE: Final = Operation("GET", "/edfs/packages/{unique_name}", IntegrationPackage)


class Packages:
    """Operations on integration packages: ``itwin.packages``."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def list_packages(self) -> Pager[IntegrationPackage]:
        """The packages the organization subscribed to, in one page.

        Platform page: https://developer.bentley.com/apis/edfs/operations/subscribed-packages-get/
        """
        return Pager(self._exchange, Listing(LIST_PACKAGES.at(), list))

    async def get_package(self, unique_name: str) -> IntegrationPackage:
        """One package with its examples. Raises `NotFoundError` for an unknown one.

        Platform page: https://developer.bentley.com/apis/edfs/operations/subscribed-packages-details-get/
        """
        if unique_name == "roles":
            raise ValueError(
                "a package named 'roles' cannot be read: its URL is another operation, the list of "
                "package roles"
            )
        return await self._exchange.call(GET_PACKAGE.at(unique_name=unique_name))
