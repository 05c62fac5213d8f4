"""Who may execute packages: package roles, and the roles of an iTwin that have them."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Final

import msgspec

from itwin_async._core.operation import Operation
from itwin_async._core.records import Record
from itwin_async._core.validation import Id, check_text
from itwin_async._pagination.operation_group import OperationGroup
from itwin_async._pagination.page_types import SinglePage
from itwin_async._pagination.pager import Pager


class PackageRole(Record, frozen=True, kw_only=True):
    """What somebody may do with a package."""

    role_id: str | None = None
    name: str | None = None
    description: str | None = None

    _repr_fields: ClassVar = ("name", "role_id")


class AssignedPackageRole(Record, frozen=True, kw_only=True):
    """A package role that a role of an iTwin has."""

    package_role_id: str | None = None
    package_role_name: str | None = None

    _repr_fields: ClassVar = ("package_role_name", "package_role_id")


class RoleAssignment(Record, frozen=True, kw_only=True):
    """A role of an iTwin, and the package roles that it has."""

    itwin_role_id: str | None = None
    itwin_role_name: str | None = None
    package_roles: tuple[AssignedPackageRole, ...] = ()

    _repr_fields: ClassVar = ("itwin_role_name", "itwin_role_id", "package_roles")


class PackageRolePage(SinglePage[PackageRole]):
    """All package roles, in one response."""

    package_roles: list[PackageRole] = msgspec.field(name="packageRoles")


class RoleAssignmentPage(SinglePage[RoleAssignment]):
    """All assignments of a package, in one response."""

    assignments: list[RoleAssignment]


_ASSIGNMENTS: Final = "/edfs/itwins/{itwin_id}/packages/{unique_name}/roles"
LIST_PACKAGE_ROLES: Final = Operation("GET", "/edfs/packages/roles", PackageRolePage)
LIST_ROLE_ASSIGNMENTS: Final = Operation("GET", _ASSIGNMENTS, RoleAssignmentPage)
ADD_ROLE_ASSIGNMENTS: Final = Operation("POST", _ASSIGNMENTS, RoleAssignmentPage)


class RoleOperations(OperationGroup):
    """Operations on package roles."""

    def list_package_roles(self) -> Pager[PackageRole]:
        """The package roles there are, in one page.

        Platform page: https://developer.bentley.com/apis/edfs/operations/packages-roles-get/

        Example::

            roles = {role.name: role.role_id async for role in itwin.packages.list_package_roles()}
        """
        return self._list(LIST_PACKAGE_ROLES.request())

    def list_role_assignments(self, itwin_id: Id, unique_name: str) -> Pager[RoleAssignment]:
        """The roles of an iTwin that have package roles of a package, in one page.

        Iterating raises `NotFoundError` for an unknown iTwin or package.
        Platform page: https://developer.bentley.com/apis/edfs/operations/packages-roles-assignments-get/

        Example::

            assigned = itwin.packages.list_role_assignments(itwin_id, "SQL_CUSTOMERS_TABLE")
            print([assignment.itwin_role_name async for assignment in assigned])
        """
        return self._list(LIST_ROLE_ASSIGNMENTS.request(itwin_id=itwin_id, unique_name=unique_name))

    async def add_role_assignments(
        self, itwin_id: Id, unique_name: str, assignments: Mapping[str, Sequence[str]]
    ) -> tuple[RoleAssignment, ...]:
        """Give roles of an iTwin package roles of a package; all assignments of the package then.

        ``assignments`` has the ids of package roles by the id of a role of the iTwin. Raises
        `NotFoundError` for an unknown iTwin or package, `InvalidRequestError` for roles that are
        not there, and `ForbiddenError` without the permission. Not sent again where its outcome is
        unknown.
        Platform page: https://developer.bentley.com/apis/edfs/operations/packages-roles-assignments-add/

        Example::

            role = await itwin.packages.list_package_roles().first()
            itwin_role = "3c1511f3-0f1e-4018-a288-2241ed004f69"
            await itwin.packages.add_role_assignments(
                itwin_id, "SQL_CUSTOMERS_TABLE", {itwin_role: [role.role_id]}
            )
        """
        body = {"assignments": _assignments(assignments)}
        request = ADD_ROLE_ASSIGNMENTS.request(
            itwin_id=itwin_id, unique_name=unique_name, body=body
        )
        answer = await self._call(request)
        return tuple(answer.assignments)


def _assignments(assignments: Mapping[str, Sequence[str]]) -> list[dict[str, object]]:
    mapping: object = assignments
    if not isinstance(mapping, Mapping):
        raise TypeError(f"assignments must be a mapping, not {type(mapping).__name__}")
    if not assignments:
        raise ValueError("assignments must not be empty")
    for role, package_roles in assignments.items():
        check_text("the id of a role", role, optional=False)
        if isinstance(package_roles, str):
            raise TypeError(f"the package roles of {role} must be a list of ids, not a str")
        for package_role in package_roles:
            check_text("the id of a package role", package_role, optional=False)
    return [
        {"iTwinRoleId": role, "packageRoleIds": list(package_roles)}
        for role, package_roles in assignments.items()
    ]
