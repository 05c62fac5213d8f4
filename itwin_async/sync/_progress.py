"""How far the iModels of a scope are, while they are followed."""

import logging
from typing import Final

from itwin_async import IModelGone, ITwinSession
from itwin_async.session import emit_event
from itwin_async.sync._checkpoint import Checkpoint, dump, line
from itwin_async.sync._list_state import ListState

_logger = logging.getLogger("itwin_async")


class Progress:
    """The states of the lists of a scope, and their checkpoint as of now."""

    def __init__(self, itwin: ITwinSession, scope: bytes, checkpoint: str | None) -> None:
        self._itwin = itwin
        start = Checkpoint(scope) if checkpoint is None else Checkpoint.parse(checkpoint, scope)
        self._scope: Final = scope
        self._states = {key: ListState.decode(record) for key, record in start.records.items()}
        # Encoded once a change: a sync of 10,000 iModels commits a checkpoint with each of them.
        self._lines = {key: line(key, record) for key, record in start.records.items()}
        self._changed: set[str] = set()
        self._reported: set[str] = set()  # as gone, or as hidden
        self._text: str | None = None  # the checkpoint, until something changes

    @property
    def imodel_ids(self) -> frozenset[str]:
        """The iModels that are known, with those that are gone."""
        return frozenset(self._states)

    def state(self, imodel_id: str) -> ListState | None:
        """The state of one list, not to be changed; None for an unknown iModel."""
        return self._states.get(imodel_id)

    def put(self, imodel_id: str, state: ListState) -> None:
        """This is the state of a list from now on; it must not change any more."""
        self._states[imodel_id] = state
        self._changed.add(imodel_id)
        self._text = None

    def set_gone(self, imodel_id: str) -> None:
        """The iModel was deleted. It stays known, in case that only our access to it is gone."""
        state = (self._states.get(imodel_id) or ListState()).copy()
        state.gone = True
        self.put(imodel_id, state)
        if imodel_id not in self._reported:
            self._reported.add(imodel_id)
            _logger.warning("iModel %s is gone: it is left out from now on", imodel_id)
            emit_event(self._itwin, IModelGone(imodel_id))

    def report_hidden(self, imodel_id: str) -> None:
        """The iModel is there, and we may not read it."""
        if imodel_id not in self._reported:
            self._reported.add(imodel_id)
            _logger.warning("the token gives no access to iModel %s: it is left out", imodel_id)

    @property
    def checkpoint(self) -> str:
        """What was handed over so far."""
        if self._text is None:
            for imodel_id in self._changed:
                self._lines[imodel_id] = line(imodel_id, self._states[imodel_id].encode())
            self._changed.clear()
            self._text = dump(self._scope, self._lines.values())
        return self._text
