"""Changesets that are pushed while the emulator runs."""

import asyncio
import itertools

from itwin_async.emulator._arguments import check_number
from itwin_async.emulator._state import seed
from itwin_async.emulator._state.imodels import IModel
from itwin_async.emulator._state.state import State


class Activity:
    """Pushes a changeset every so many seconds, to one iModel after the other.

    The data of every other one is stored at the next push: as connectors do, later than the
    changeset.
    """

    def __init__(self, state: State, every: float | None) -> None:
        if every is not None:
            check_number("push_every", every, above=True)
        self._state = state
        self._every = every
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to push."""
        if self._every is not None:
            self._task = asyncio.create_task(self._run(self._every))

    def stop(self) -> None:
        """Push no more."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()

    async def _run(self, every: float) -> None:
        late: tuple[IModel, int] | None = None
        for number in itertools.count():
            await asyncio.sleep(every)
            if late is not None:
                self._store_data(*late)
            ids = list(self._state.imodels)
            if not ids:
                continue
            imodel = self._state.imodels[ids[number % len(ids)]]
            index = self._state.push_changeset(imodel).index
            late = (imodel, index) if number % 2 else None
            if late is None:
                self._store_data(imodel, index)

    def _store_data(self, imodel: IModel, index: int) -> None:
        if not imodel.has_data(index):
            imodel.write_data(index, seed.extended_data(self._state.size, imodel.number, index))
