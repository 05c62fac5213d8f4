"""The operations of EDFS, composed of those of its resources."""

from itwin_async.packages.packages import PackageOperations
from itwin_async.packages.roles import RoleOperations
from itwin_async.packages.systems import SystemOperations
from itwin_async.packages.timers import TimerOperations


class Packages(PackageOperations, RoleOperations, SystemOperations, TimerOperations):
    """Operations of EDFS: ``itwin.packages``."""
