"""The Extensions API: iTwin.js extensions of an account, their versions, and the files of these."""

from itwin_async.extensions.extensions import Extension, ExtensionLinks
from itwin_async.extensions.group import Extensions
from itwin_async.extensions.version_download import DownloadedVersion
from itwin_async.extensions.versions import (
    Checksum,
    ExtensionFile,
    ExtensionInfo,
    ExtensionVersion,
    VersionLinks,
)

__all__ = [
    "Checksum",
    "DownloadedVersion",
    "Extension",
    "ExtensionFile",
    "ExtensionInfo",
    "ExtensionLinks",
    "ExtensionVersion",
    "Extensions",
    "VersionLinks",
]
