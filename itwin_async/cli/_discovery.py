"""``itwin-async itwins`` and ``itwin-async packages``."""

from typing import Annotated, Final, Literal

from cyclopts import App, Parameter

from itwin_async import ITwinSession
from itwin_async.cli._options import DEFAULTS, Count, Flag, Options, pairs
from itwin_async.cli._output import show, show_list, write, write_json
from itwin_async.cli._session import with_session

itwins: Final = App(name="itwins")
packages: Final = App(name="packages")


@itwins.command(name="list")
def list_itwins(
    *,
    search: str | None = None,
    sub_class: str | None = None,
    status: str | None = None,
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
    options: Options = DEFAULTS,
) -> None:
    """List the iTwins you are a member of.

    Args:
        search: Part of the name, number or another text.
        sub_class: Account, Asset, Project, Portfolio, Program or WorkPackage; several joined by
            commas.
        status: Active, Inactive or Trial.
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
    )


@packages.command(name="list")
def list_packages(*, limit: Count = None, options: Options = DEFAULTS) -> None:
    """List the packages that your organization subscribed to.

    Args:
        limit: Most items to list.
        options: See `Options`.
    """
    columns = ("uniqueName", "name", "version", "projectStage")
    show_list(
        options, "packages", columns, lambda session: session.packages.list_packages(), limit=limit
    )


@packages.command(name="show")
def show_package(name: str, /, *, options: Options = DEFAULTS) -> None:
    """Show one package, with an example of its input and of its output.

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
