"""``itwin-async named-versions``, ``changeset-groups`` and ``users``: parts of an iModel."""

from typing import Any, Final, Literal, cast

from cyclopts import App

from itwin_async.cli._options import (
    DEFAULTS,
    LIST_DEFAULTS,
    Count,
    Flag,
    ListOptions,
    Options,
)
from itwin_async.cli._output import show, show_list

named_versions: Final = App(name="named-versions")
changeset_groups: Final = App(name="changeset-groups")
users: Final = App(name="users")


@named_versions.command(name="list")
def list_named_versions(
    imodel: str,
    /,
    *,
    search: str | None = None,
    name: str | None = None,
    state: Literal["visible", "hidden"] | None = None,
    order_by: str | None = None,
    representation: Flag = False,
    page_size: Count = None,
    limit: Count = None,
    options: ListOptions = LIST_DEFAULTS,
) -> None:
    """List the named versions of an iModel.

    Example: itwin-async named-versions list 5e19bee0-3aea-4355-a9f0-c6df9989ee7d --emulator

    Args:
        imodel: Id of the iModel.
        search: Part of the name or description.
        name: Exact name.
        state: Their state.
        order_by: Order, such as 'changesetIndex desc' or 'createdDateTime asc'.
        representation: Get all fields.
        page_size: Items per page, at most 1,000.
        limit: Most items to list.
        options: See `Options`.
    """
    show_list(
        options,
        "named versions",
        ("displayName", "id", "changesetIndex", *(("state",) if representation else ())),
        lambda session: session.imodels.list_named_versions(
            imodel,
            search=search,
            name=name,
            state=state,
            order_by=cast("Any", order_by),  # the platform says what it may be
            representation=representation,
            page_size=page_size,
        ),
        limit=limit,
        empty="No named versions match.",
    )


@named_versions.command(name="show")
def show_named_version(imodel: str, named_version: str, /, *, options: Options = DEFAULTS) -> None:
    """Show one named version.

    Example: itwin-async named-versions show 5e19bee0-3aea-4355-a9f0-c6df9989ee7d
    b7581ae0-3e0d-4830-b660-141e237bf14c --emulator

    Args:
        imodel: Id of the iModel.
        named_version: Id of the named version.
        options: See `Options`.
    """
    show(options, lambda session: session.imodels.get_named_version(imodel, named_version))


@changeset_groups.command(name="list")
def list_changeset_groups(
    imodel: str,
    /,
    *,
    page_size: Count = None,
    limit: Count = None,
    options: ListOptions = LIST_DEFAULTS,
) -> None:
    """List the changeset groups of an iModel, such as the runs of a connector.

    Example: itwin-async changeset-groups list 5e19bee0-3aea-4355-a9f0-c6df9989ee7d --emulator

    Args:
        imodel: Id of the iModel.
        page_size: Items per page, at most 1,000.
        limit: Most items to list.
        options: See `Options`.
    """
    show_list(
        options,
        "changeset groups",
        ("description", "id", "state", "createdDateTime"),
        lambda session: session.imodels.list_changeset_groups(imodel, page_size=page_size),
        limit=limit,
        empty="There are no changeset groups.",
    )


@changeset_groups.command(name="show")
def show_changeset_group(imodel: str, group: str, /, *, options: Options = DEFAULTS) -> None:
    """Show one changeset group.

    Example: itwin-async changeset-groups show 5e19bee0-3aea-4355-a9f0-c6df9989ee7d
    b71b7ef9-620d-4d0e-b6c9-5ec511e83ad5 --emulator

    Args:
        imodel: Id of the iModel.
        group: Id of the group.
        options: See `Options`.
    """
    show(options, lambda session: session.imodels.get_changeset_group(imodel, group))


@users.command(name="list")
def list_users(
    imodel: str,
    /,
    *,
    order_by: str | None = None,
    representation: Flag = False,
    page_size: Count = None,
    limit: Count = None,
    options: ListOptions = LIST_DEFAULTS,
) -> None:
    """List the users of an iModel.

    Example: itwin-async users list 5e19bee0-3aea-4355-a9f0-c6df9989ee7d --emulator

    Args:
        imodel: Id of the iModel.
        order_by: Order, such as 'surname asc' or 'givenName desc'.
        representation: Get all fields.
        page_size: Items per page, at most 1,000.
        limit: Most items to list.
        options: See `Options`.
    """
    show_list(
        options,
        "users",
        ("displayName", "id", *(("email",) if representation else ())),
        lambda session: session.imodels.list_users(
            imodel,
            order_by=cast("Any", order_by),
            representation=representation,
            page_size=page_size,
        ),
        limit=limit,
        empty="There are no users.",
    )


@users.command(name="show")
def show_user(imodel: str, user: str, /, *, options: Options = DEFAULTS) -> None:
    """Show one user of an iModel, such as the creator of a changeset.

    Example: itwin-async users show 5e19bee0-3aea-4355-a9f0-c6df9989ee7d
    29f08030-52ec-4864-b572-f7ecb632b346 --emulator

    Args:
        imodel: Id of the iModel.
        user: Id of the user.
        options: See `Options`.
    """
    show(options, lambda session: session.imodels.get_user(imodel, user))
