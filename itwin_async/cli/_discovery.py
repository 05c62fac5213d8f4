"""``itwin-async itwins`` and ``itwin-async packages``."""

from contextlib import aclosing
from typing import Annotated, Final, Literal

from cyclopts import App, Parameter

from itwin_async import ITwin, ITwinSession, NotFoundError
from itwin_async.cli._options import (
    DEFAULTS,
    LIST_DEFAULTS,
    Count,
    Flag,
    ListOptions,
    Options,
    pairs,
)
from itwin_async.cli._output import show, show_list, write, write_json
from itwin_async.cli._session import with_session

itwins: Final = App(name="itwins")
packages: Final = App(name="packages")


@itwins.command(name="list")
def list_itwins(
    *,
    search: str | None = None,
    sub_class: str | None = None,
    status: Literal["Active", "Inactive", "Trial"] | None = None,
    number: str | None = None,
    display_name: str | None = None,
    parent: str | None = None,
    filter: str | None = None,
    orderby: str | None = None,
    scope: Literal["memberOfItwin", "all", "OrganizationAdmin"] | None = None,
    include_inactive: Flag = False,
    representation: Flag = False,
    page_size: Count = None,
    limit: Count = None,
    options: ListOptions = LIST_DEFAULTS,
) -> None:
    """List the iTwins you are a member of.

    Example: itwin-async itwins list --sub-class Project --emulator

    Args:
        search: Part of the name, number or another text.
        sub_class: Account, Asset, Project, Portfolio, Program or WorkPackage; several joined by
            commas.
        status: Their status.
        number: Exact number.
        display_name: Exact name.
        parent: Id of the parent iTwin.
        filter: An OData filter, such as "type eq 'Bridge'".
        orderby: Order, such as 'displayName desc'.
        scope: Which iTwins to search.
        include_inactive: List inactive ones as well.
        representation: Get all fields.
        page_size: Items per page, at most 1,000.
        limit: Most items to list.
        options: See `Options`.
    """
    filters = (search, sub_class, status, number, display_name, parent, filter, scope)
    show_list(
        options,
        "iTwins",
        ("displayName", "id", "number", "subClass"),
        lambda session: session.itwins.list_itwins(
            search=search,
            sub_class=sub_class,
            status=status,
            number=number,
            display_name=display_name,
            parent_id=parent,
            filter=filter,
            orderby=orderby,
            query_scope=scope,
            include_inactive=include_inactive,
            representation=representation,
            page_size=page_size,
        ),
        limit=limit,
        empty=(
            "No iTwins match."
            if any(filters)
            else "No iTwins: is this application or person a member of one?"
        ),
    )


@itwins.command(name="show")
def show_itwin(
    itwin: str | None = None, /, *, account: Flag = False, options: Options = DEFAULTS
) -> None:
    """Show an iTwin that you are a member of, or your primary account.

    The platform lists iTwins, and has no request for one: the list is read until it is found.

    Example: itwin-async itwins show dc914a84-e0c9-40e2-9d14-faf5ed84147f --emulator

    Args:
        itwin: Id of the iTwin; by default that of your primary account.
        account: Show the account that the iTwin belongs to.
        options: See `Options`.
    """
    if account and itwin is None:
        raise ValueError("--account is for an iTwin: give its id")

    async def get(session: ITwinSession) -> ITwin:
        if itwin is None:
            return await session.itwins.get_primary_account()
        if account:
            return await session.itwins.get_account(itwin)
        pager = session.itwins.list_itwins(
            include_inactive=True, representation=True, page_size=1_000
        )
        async with aclosing(aiter(pager)) as found:
            async for listed in found:
                if listed.id.lower() == itwin.lower():
                    return listed
        raise NotFoundError(
            f"no iTwin {itwin} among those that this application or person is a member of"
        )

    show(options, get)


@packages.command(name="list")
def list_packages(*, limit: Count = None, options: ListOptions = LIST_DEFAULTS) -> None:
    """List the packages that your organization subscribed to.

    Example: itwin-async packages list --emulator

    Args:
        limit: Most items to list.
        options: See `Options`.
    """
    columns = ("uniqueName", "name", "version", "projectStage")
    show_list(
        options,
        "packages",
        columns,
        lambda session: session.packages.list_packages(),
        limit=limit,
        empty="No packages: has your organization subscribed to one?",
    )


@packages.command(name="show")
def show_package(name: str, /, *, options: Options = DEFAULTS) -> None:
    """Show one package, with an example of its input and of its output.

    Example: itwin-async packages show SQL_CUSTOMERS_TABLE --emulator

    Args:
        name: Unique name of the package.
        options: See `Options`.
    """
    show(options, lambda session: session.packages.get_package(name))


@packages.command
def execute(
    name: str,
    /,
    *,
    itwin: str,
    variable: Annotated[list[str] | None, Parameter(negative="")] = None,
    xml: Flag = False,
    options: Options = DEFAULTS,
) -> None:
    """Run a package for an iTwin, and print its output.

    Example: itwin-async packages execute SQL_CUSTOMERS_TABLE --itwin
    dc914a84-e0c9-40e2-9d14-faf5ed84147f --variable CustomerID=ACME --emulator

    Args:
        name: Unique name of the package.
        itwin: Id of the iTwin.
        variable: NAME=VALUE, as in the example of the package's input; may be repeated.
        xml: Ask for XML instead of JSON.
        options: See `Options`.
    """
    variables = pairs("--variable", variable or ())

    async def work(session: ITwinSession) -> bytes:
        execute = session.packages.execute_package
        if xml:
            return await execute(itwin, name, variables=variables or None, as_xml=True)
        return await execute(itwin, name, variables=variables or None, returns=bytes)

    data = with_session(options, work)
    if xml:
        write(data)
    else:
        write_json(options, data)
