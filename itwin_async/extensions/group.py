"""The operations of the Extensions API, composed of those of its resources."""

from itwin_async.extensions.extensions import ExtensionOperations
from itwin_async.extensions.version_download import VersionDownloads


class Extensions(ExtensionOperations, VersionDownloads):
    """Operations of the Extensions API: ``itwin.extensions``."""
