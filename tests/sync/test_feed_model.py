"""A feed against a model of the platform: whatever happens, each entry comes once, none is lost."""

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from feeds import Key, platform, project, there
from hypothesis import given, settings
from hypothesis import strategies as st

from itwin_async import ITwinSession
from itwin_async.emulator import Emulator
from itwin_async.sync import ChangeFeed
from itwin_async.sync._checkpoint import Checkpoint

LOOK_BACK = 3
SETTLE = 300.0

which = st.integers(0, 5)
happenings = st.lists(
    st.one_of(
        st.tuples(st.just("push"), which, st.booleans()),
        st.tuples(st.just("late"), which, st.integers(0, 6)),
        st.tuples(st.just("delete"), which),
        st.tuples(st.just("add")),
        st.tuples(st.just("advance"), st.sampled_from([20, 200, 400])),
        st.tuples(st.just("pages"), st.sampled_from([1, 2, 7, 1_000])),
        st.tuples(st.just("read"), st.integers(0, 12)),
        st.tuples(st.just("pass")),
    ),
    max_size=25,
)


@dataclass
class Model:
    """What the feed has promised: entries that were there with their push, or in the window."""

    emulator: Emulator
    itwin: ITwinSession
    scope: str
    given: set[Key] = field(default_factory=set)
    checkpoint: str | None = None
    late: set[Key] = field(default_factory=set)  # stored after their push
    scanned: dict[str, datetime] = field(default_factory=dict)  # the last whole look

    @property
    def imodels(self) -> list[str]:
        return [
            imodel.id
            for imodel in self.emulator._state.imodels.values()
            if imodel.itwin_id == self.scope
        ]

    def apply(self, kind: str, *details: int) -> None:
        """Something happens on the platform."""
        imodels = self.imodels
        if kind == "advance":
            self.emulator.advance(details[0])
        elif kind == "pages":
            self.emulator._pipeline.max_items = details[0]
        elif kind == "add":
            self.emulator.add_imodel(self.scope)
        elif imodels:
            imodel = imodels[details[0] % len(imodels)]
            if kind == "push":
                self.emulator.push_changeset(imodel, {"n": 1} if details[1] else None)
            elif kind == "delete":
                self.emulator.delete_imodel(imodel)
            else:
                self._store_late(imodel, details[1])

    def _store_late(self, imodel: str, back: int) -> None:
        state = self.emulator._state.imodels[imodel]
        index = state.changeset_count - back
        if index >= 1 and not state.has_data(index):
            self.emulator.store_extended_data(imodel, index, {"late": 1})
            self.late.add((imodel, index))

    async def read(self, count: int | None) -> None:
        """A process reads so many entries, or all, and ends."""
        began, due = self.emulator.now, self._due()
        feed = ChangeFeed(
            self.itwin,
            itwin_id=self.scope,
            checkpoint=self.checkpoint,
            every=None,
            look_back=LOOK_BACK,
            settle=SETTLE,
        )
        async with feed:
            self.checkpoint = feed.checkpoint
            async for entry in feed:
                key = (entry.imodel_id, entry.changeset_index)
                assert key not in self.given, f"{key} came twice"
                self.given.add(key)
                self.checkpoint = feed.checkpoint
                if count is not None:
                    count -= 1
                    if count <= 0:
                        self._note_looks(began)
                        return
        self.checkpoint = feed.checkpoint
        self._check(due)
        self.scanned.update(dict.fromkeys(self.imodels, began))

    def _note_looks(self, began: datetime) -> None:
        """Some iModels were read to their end, before the process ended."""
        assert self.checkpoint is not None
        checkpoint = Checkpoint.parse(self.checkpoint)
        for imodel in self.imodels:
            state = checkpoint.state(imodel)
            pushed = self.emulator._state.imodels[imodel].last_pushed_at
            if state is not None and pushed is not None:
                seconds = datetime.fromisoformat(pushed).timestamp()
                if state.pushed is not None and abs(state.pushed / 1e6 - seconds) < 0.001:
                    self.scanned[imodel] = began

    def _due(self) -> list[str]:
        """The iModels that a look must not leave out."""
        due = []
        for imodel in self.imodels:
            pushed = self.emulator._state.imodels[imodel].last_pushed_at
            last = None if pushed is None else datetime.fromisoformat(pushed)
            scanned = self.scanned.get(imodel, datetime.min.replace(tzinfo=UTC))
            if last is not None and scanned < last + timedelta(seconds=SETTLE):
                due.append(imodel)
        return due

    def _check(self, due: list[str]) -> None:
        """All that was stored in time was given, and all of the window of what was looked at."""
        for key in there(self.emulator, self.imodels):
            imodel, index = key
            in_window = index > self.emulator._state.imodels[imodel].changeset_count - LOOK_BACK
            if key not in self.late or (imodel in due and in_window):
                assert key in self.given, f"{key} was lost"


def live(history: list[tuple], every: int) -> None:
    async def run() -> None:
        options = {"imodels": 4, "changesets": 7, "extended_data_every": every}
        async with platform(**options) as (emulator, itwin):
            model = Model(emulator, itwin, await project(itwin))
            for kind, *details in history:
                if kind == "read":
                    await model.read(details[0])
                elif kind == "pass":
                    await model.read(None)
                else:
                    model.apply(kind, *details)
            await model.read(None)

    with asyncio.Runner() as runner:
        runner.run(run())


@settings(max_examples=20)
@given(happenings, st.sampled_from([1, 2, 3]))
def test_each_entry_comes_once_and_none_is_lost(history, every):
    live(history, every)


@pytest.mark.slow(reason="a thousand histories")
@settings(max_examples=1_000)
@given(happenings, st.sampled_from([1, 2, 3]))
def test_each_entry_comes_once_and_none_is_lost_in_many_histories(history, every):
    live(history, every)
