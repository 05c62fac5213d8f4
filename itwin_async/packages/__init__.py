"""The Enterprise Data Federation Service (EDFS): packages, their roles, systems and timers."""

from itwin_async.packages.group import Packages
from itwin_async.packages.packages import EntitySet, IntegrationPackage
from itwin_async.packages.roles import AssignedPackageRole, PackageRole, RoleAssignment
from itwin_async.packages.systems import ExternalSystem
from itwin_async.packages.timers import PackageTimer, TimerParameter

__all__ = [
    "AssignedPackageRole",
    "EntitySet",
    "ExternalSystem",
    "IntegrationPackage",
    "PackageRole",
    "PackageTimer",
    "Packages",
    "RoleAssignment",
    "TimerParameter",
]
