"""Asyncio-native client of Bentley's iTwin Platform: everything public but emulator and extras."""

import logging
import typing

from itwin_async._core import lazy as _lazy
from itwin_async._core.operation import Operation
from itwin_async._core.records import Link, plain
from itwin_async._files.progress import DownloadProgress, UploadProgress
from itwin_async._http.answered import Answered
from itwin_async._pagination.list_iterators import ItemIterator, Page, PageIterator
from itwin_async._pagination.merge import Merged, merged
from itwin_async._pagination.pager import Pager
from itwin_async.auth import (
    ClientCredentials,
    ShareKey,
    StaticToken,
    Token,
    TokenProvider,
    TokenRequester,
)
from itwin_async.errors import (
    ConflictError,
    ConflictingLock,
    DecodeError,
    ErrorDetail,
    ForbiddenError,
    InvalidRequestError,
    ITwinError,
    LinkError,
    LockConflictError,
    NewerChangesError,
    NotFoundError,
    PayloadError,
    RateLimitError,
    ResponseError,
    ServerError,
    TransportError,
    UnauthorizedError,
)
from itwin_async.events import (
    Event,
    IModelGone,
    OperationFinished,
    OutageEnded,
    OutageStarted,
    RateLimited,
    ResponseReceived,
    RetryScheduled,
    Stats,
    TokenRenewed,
)
from itwin_async.limits import Limiter
from itwin_async.retries import Retry
from itwin_async.session import VERSION as __version__
from itwin_async.session import ITwinSession
from itwin_async.sign_in import SignInFlow, UserSignIn
from itwin_async.token_store import FileTokenStore, TokenStore
from itwin_async.users import User

if typing.TYPE_CHECKING:  # at run time they are imported when one of their names is first used
    from itwin_async.extensions import (
        Checksum,
        DownloadedVersion,
        Extension,
        ExtensionFile,
        ExtensionInfo,
        ExtensionLinks,
        Extensions,
        ExtensionVersion,
        VersionLinks,
    )
    from itwin_async.imodels import (
        Application,
        AzureAccess,
        BaselineFile,
        BaselineFileLinks,
        Briefcase,
        BriefcaseLinks,
        Changeset,
        ChangesetGroup,
        ChangesetGroupLinks,
        ChangesetLinks,
        Checkpoint,
        CheckpointLinks,
        DirectoryAccess,
        DownloadedChangesets,
        ExtendedData,
        Extent,
        GoogleAccess,
        IModel,
        IModelCreation,
        IModelLinks,
        IModelOrigin,
        IModels,
        IModelUser,
        Lock,
        LockedObjects,
        NamedVersion,
        NamedVersionLinks,
        Point,
        SynchronizationInfo,
        Thumbnail,
        UserApplication,
        UserLinks,
        UserStatistics,
    )
    from itwin_async.itwins import ITwin, ITwins
    from itwin_async.packages import (
        AssignedPackageRole,
        EntitySet,
        ExternalSystem,
        IntegrationPackage,
        PackageRole,
        Packages,
        PackageTimer,
        RoleAssignment,
        TimerParameter,
    )
    from itwin_async.webhooks import Webhook, Webhooks

# A library's log is silent until an application asks for it.
logging.getLogger("itwin_async").addHandler(logging.NullHandler())

__all__ = [
    "Answered",
    "Application",
    "AssignedPackageRole",
    "AzureAccess",
    "BaselineFile",
    "BaselineFileLinks",
    "Briefcase",
    "BriefcaseLinks",
    "Changeset",
    "ChangesetGroup",
    "ChangesetGroupLinks",
    "ChangesetLinks",
    "Checkpoint",
    "CheckpointLinks",
    "Checksum",
    "ClientCredentials",
    "ConflictError",
    "ConflictingLock",
    "DecodeError",
    "DirectoryAccess",
    "DownloadProgress",
    "DownloadedChangesets",
    "DownloadedVersion",
    "EntitySet",
    "ErrorDetail",
    "Event",
    "ExtendedData",
    "Extension",
    "ExtensionFile",
    "ExtensionInfo",
    "ExtensionLinks",
    "ExtensionVersion",
    "Extensions",
    "Extent",
    "ExternalSystem",
    "FileTokenStore",
    "ForbiddenError",
    "GoogleAccess",
    "IModel",
    "IModelCreation",
    "IModelGone",
    "IModelLinks",
    "IModelOrigin",
    "IModelUser",
    "IModels",
    "ITwin",
    "ITwinError",
    "ITwinSession",
    "ITwins",
    "IntegrationPackage",
    "InvalidRequestError",
    "ItemIterator",
    "Limiter",
    "Link",
    "LinkError",
    "Lock",
    "LockConflictError",
    "LockedObjects",
    "Merged",
    "NamedVersion",
    "NamedVersionLinks",
    "NewerChangesError",
    "NotFoundError",
    "Operation",
    "OperationFinished",
    "OutageEnded",
    "OutageStarted",
    "PackageRole",
    "PackageTimer",
    "Packages",
    "Page",
    "PageIterator",
    "Pager",
    "PayloadError",
    "Point",
    "RateLimitError",
    "RateLimited",
    "ResponseError",
    "ResponseReceived",
    "Retry",
    "RetryScheduled",
    "RoleAssignment",
    "ServerError",
    "ShareKey",
    "SignInFlow",
    "StaticToken",
    "Stats",
    "SynchronizationInfo",
    "Thumbnail",
    "TimerParameter",
    "Token",
    "TokenProvider",
    "TokenRenewed",
    "TokenRequester",
    "TokenStore",
    "TransportError",
    "UnauthorizedError",
    "UploadProgress",
    "User",
    "UserApplication",
    "UserLinks",
    "UserSignIn",
    "UserStatistics",
    "VersionLinks",
    "Webhook",
    "Webhooks",
    "__version__",
    "merged",
    "plain",
]

_lazy.publish(globals())
_APIS = ("imodels", "itwins", "extensions", "packages", "webhooks")

if not typing.TYPE_CHECKING:  # to a type checker, it would make every name public

    def __getattr__(name: str) -> object:
        """A public name of an API that was not used yet."""
        if name in __all__:
            for api in _APIS:
                _lazy.load_api(api)
                if name in globals():
                    return globals()[name]
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
