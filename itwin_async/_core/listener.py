"""Progress reports to a function of the caller's, which never changes how a job ends."""

import logging
from asyncio import CancelledError
from collections.abc import Callable
from typing import Generic, TypeVar

_T = TypeVar("_T")
_logger = logging.getLogger("itwin_async")


class ProgressListener(Generic[_T]):
    """Calls an ``on_progress``; logs its first error, and does not call it again after that.

    ``job`` is what goes on without it, for the log: "download", "export".
    """

    def __init__(self, on_progress: Callable[[_T], object] | None, job: str) -> None:
        self._on_progress = on_progress
        self._job = job

    @property
    def is_listening(self) -> bool:
        """Whether a report would reach anybody."""
        return self._on_progress is not None

    def report(self, progress: _T) -> None:
        """Call the function, if there is one and it has not failed yet."""
        if self._on_progress is None:
            return
        try:
            self._on_progress(progress)
        except (Exception, CancelledError):  # nobody can cancel a plain function
            self._on_progress = None
            _logger.exception(
                "on_progress failed and is not called again; the %s goes on", self._job
            )
