"""Asyncio-native client of Bentley's iTwin Platform: everything public but emulator and extras."""

import logging

from itwin_async._downloads import DownloadProgress
from itwin_async._extended_data import ExtendedData
from itwin_async._operation import Operation
from itwin_async._paging import ItemIterator, Page, PageIterator, Pager
from itwin_async._records import Link, plain
from itwin_async._streams import Merged, merged
from itwin_async.auth import ClientCredentials, SignIn, StaticToken, Token, TokenProvider
from itwin_async.errors import (
    ConflictError,
    DecodeError,
    ErrorDetail,
    ForbiddenError,
    InvalidRequestError,
    ITwinError,
    LinkError,
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
    Finished,
    OutageEnded,
    OutageStarted,
    Paused,
    Renewed,
    Requested,
    Retried,
    Stats,
)
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
    Changeset,
    ChangesetLinks,
    Extent,
    IModel,
    IModelLinks,
    IModels,
    Point,
    SynchronizationInfo,
)
from itwin_async.itwins import ITwin, ITwins
from itwin_async.limits import Limiter
from itwin_async.packages import EntitySet, IntegrationPackage, Packages
from itwin_async.retries import Retry
from itwin_async.session import VERSION as __version__
from itwin_async.session import ITwinSession

# A library's log is silent until an application asks for it.
logging.getLogger("itwin_async").addHandler(logging.NullHandler())

__all__ = [
    "Application",
    "Changeset",
    "ChangesetLinks",
    "Checksum",
    "ClientCredentials",
    "ConflictError",
    "DecodeError",
    "DownloadProgress",
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
    "Finished",
    "ForbiddenError",
    "IModel",
    "IModelLinks",
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
    "Merged",
    "NotFoundError",
    "Operation",
    "OutageEnded",
    "OutageStarted",
    "Packages",
    "Page",
    "PageIterator",
    "Pager",
    "Paused",
    "PayloadError",
    "Point",
    "RateLimitError",
    "Renewed",
    "Requested",
    "ResponseError",
    "Retried",
    "Retry",
    "ServerError",
    "SignIn",
    "StaticToken",
    "Stats",
    "SynchronizationInfo",
    "Token",
    "TokenProvider",
    "TransportError",
    "UnauthorizedError",
    "VersionLinks",
    "__version__",
    "merged",
    "plain",
]
