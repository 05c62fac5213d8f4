"""Timers that execute packages again and again."""

from collections.abc import Mapping
from types import NoneType
from typing import ClassVar, Final

from itwin_async._core.operation import Operation
from itwin_async._core.records import Record
from itwin_async._core.validation import Id, check_flag, check_text
from itwin_async._pagination.operation_group import OperationGroup
from itwin_async._pagination.page_types import SinglePage
from itwin_async._pagination.pager import Pager
from itwin_async.packages.packages import name_value_pairs


class TimerParameter(Record, frozen=True, kw_only=True):
    """A variable that a timer executes its package with."""

    name: str | None = None
    value: str | None = None

    _repr_fields: ClassVar = ("name", "value")


class PackageTimer(Record, frozen=True, kw_only=True):
    """A timer: when ``cron_str`` says so, it executes a package with ``parameters``."""

    id: str | None = None
    name: str | None = None
    package_unique_name: str | None = None
    cron_str: str | None = None
    enabled: bool | None = None
    parameters: tuple[TimerParameter, ...] = ()

    _repr_fields: ClassVar = ("name", "id", "package_unique_name", "cron_str", "enabled")


class TimerPage(SinglePage[PackageTimer]):
    """All timers of an iTwin, in one response."""

    timers: list[PackageTimer]


_TIMER: Final = "/edfs/itwins/{itwin_id}/timers/{timer_id}"
LIST_TIMERS: Final = Operation("GET", "/edfs/itwins/{itwin_id}/timers", TimerPage)
CREATE_TIMER: Final = Operation("POST", "/edfs/itwins/{itwin_id}/timers", PackageTimer)
TOGGLE_TIMER: Final = Operation("PATCH", f"{_TIMER}/toggle", PackageTimer)
DELETE_TIMER: Final = Operation("DELETE", _TIMER, NoneType)


class TimerOperations(OperationGroup):
    """Operations on timers."""

    def list_timers(self, itwin_id: Id) -> Pager[PackageTimer]:
        """The timers of an iTwin, in one page. Iterating raises `NotFoundError` for an unknown one.

        Platform page: https://developer.bentley.com/apis/edfs/operations/timers-get/

        Example::

            timers = [timer async for timer in itwin.packages.list_timers(itwin_id)]
        """
        return self._list(LIST_TIMERS.request(itwin_id=itwin_id))

    async def create_timer(
        self,
        itwin_id: Id,
        name: str,
        unique_name: str,
        cron: str,
        *,
        parameters: Mapping[str, str] | None = None,
        enabled: bool = True,
    ) -> PackageTimer:
        """Execute the package ``unique_name`` again and again, when ``cron`` says so.

        The platform's text wants six or seven fields of ``cron``, its samples have five, such as
        ``0 6 * * 1``. ``parameters`` are the package's variables by name. Raises `NotFoundError`
        for an unknown iTwin, `InvalidRequestError` for what the platform cannot take, and
        `ForbiddenError` without the permission. Not sent again where its outcome is unknown.
        Platform page: https://developer.bentley.com/apis/edfs/operations/timer-post/

        Example::

            timer = await itwin.packages.create_timer(
                itwin_id, "Mondays", "SQL_CUSTOMERS_TABLE", "0 6 * * 1",
                parameters={"CustomerID": "ACME"},
            )
        """
        texts = {"name": name, "unique_name": unique_name, "cron": cron}
        for argument, value in texts.items():
            check_text(argument, value, optional=False)
        check_flag("enabled", enabled)
        body: dict[str, object] = {
            "name": name,
            "packageUniqueName": unique_name,
            "cronStr": cron,
            "enabled": enabled,
            "parameters": [] if parameters is None else name_value_pairs(parameters),
        }
        return await self._call(CREATE_TIMER.request(itwin_id=itwin_id, body=body))

    async def toggle_timer(self, itwin_id: Id, timer_id: Id) -> PackageTimer:
        """Enable a timer that is disabled, and the other way round; the timer as it is then.

        Raises `NotFoundError` for an unknown one. Not sent again where its outcome is unknown.
        Platform page: https://developer.bentley.com/apis/edfs/operations/timer-toggle/

        Example::

            async for timer in itwin.packages.list_timers(itwin_id):
                timer = await itwin.packages.toggle_timer(itwin_id, timer.id)
        """
        return await self._call(TOGGLE_TIMER.request(itwin_id=itwin_id, timer_id=timer_id))

    async def delete_timer(self, itwin_id: Id, timer_id: Id) -> None:
        """Delete a timer. Raises `NotFoundError` for an unknown one.

        Platform page: https://developer.bentley.com/apis/edfs/overview/

        Example::

            async for timer in itwin.packages.list_timers(itwin_id):
                await itwin.packages.delete_timer(itwin_id, timer.id)
        """
        await self._call(DELETE_TIMER.request(itwin_id=itwin_id, timer_id=timer_id))
