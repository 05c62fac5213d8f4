"""All data of one emulator."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from itwin_async.emulator import _arguments
from itwin_async.emulator._state import seed
from itwin_async.emulator._state.changesets import Changeset
from itwin_async.emulator._state.clock import Clock, to_timestamp
from itwin_async.emulator._state.collection import Collection
from itwin_async.emulator._state.creation import SUCCESSFUL, Creation
from itwin_async.emulator._state.edfs import Edfs
from itwin_async.emulator._state.events import PlatformEvent
from itwin_async.emulator._state.extensions import Extension, seed_extensions
from itwin_async.emulator._state.imodel_parts import NamedVersion
from itwin_async.emulator._state.imodels import IModel, seed_imodels
from itwin_async.emulator._state.itwins import seed_itwins
from itwin_async.emulator._state.packages import seed_packages
from itwin_async.emulator._state.seed import JSON, Size
from itwin_async.emulator._state.storage import Storage
from itwin_async.emulator._state.webhooks import Webhook


class State:
    """The records of one emulator, in one collection for each kind."""

    def __init__(self, size: Size, clock: Clock, *, creation_time: float = 0.0) -> None:
        _arguments.check_number("creation_time", creation_time)
        self.size: Size = size
        self.clock: Clock = clock
        started = clock.now()
        self.itwins: Collection[JSON] = Collection(lambda: seed_itwins(size))
        self.imodels: Collection[IModel] = Collection(
            lambda: seed_imodels(size, self.itwins, started)
        )
        self.extensions: Collection[Extension] = Collection(lambda: seed_extensions(size))
        self.packages: Collection[JSON] = Collection(lambda: seed_packages(size), exact=True)
        self.edfs: Edfs = Edfs()
        self.webhooks: Collection[Webhook] = Collection()
        self.storage: Storage = Storage()
        self.on_event: Callable[[PlatformEvent], None] | None = None
        # The ids of iModels by the id of a user, those of the newest last.
        self.favorites: defaultdict[str, dict[str, None]] = defaultdict(dict)
        self.recents: defaultdict[str, dict[str, None]] = defaultdict(dict)
        self._creation_time = creation_time
        self._added_imodels = 0

    def timestamp(self, digits: int = 7) -> str:
        """The time of the platform's clock as it writes it."""
        return to_timestamp(self.clock.now(), digits)

    def emit(self, imodel: IModel, kind: str, **content: str | None) -> None:
        """Tell the webhooks of an event of the iModels API."""
        if self.on_event is not None:
            content["imodelId"] = imodel.id
            self.on_event(PlatformEvent(f"iModels.{kind}.v1", imodel.itwin_id, dict(content)))

    def add_imodel(
        self,
        itwin_id: str,
        name: str,
        description: str | None = None,
        *,
        user_id: str = seed.guid("user", 0),
    ) -> IModel:
        """Add an iModel without changesets."""
        number = self.size.imodels + self._added_imodels
        self._added_imodels += 1
        id = seed.guid(self.size.seed, "imodel", number)
        now, size = self.clock.now(), replace(self.size, changesets=0)
        imodel = IModel(
            number,
            id,
            itwin_id,
            name,
            description,
            to_timestamp(now),
            size,
            now,
            creator_id=user_id,
        )
        self.imodels[id] = imodel
        self.emit(imodel, "iModelCreated", userId=user_id)
        return imodel

    def create_imodel(
        self,
        itwin_id: str,
        name: str,
        description: str | None,
        *,
        extent: JSON | None = None,
        containers: int = 0,
        source: IModel | None = None,
        copied: int = 0,
        cloned_from: JSON | None = None,
        forked_from: JSON | None = None,
        is_instant: bool = False,
        file_size: int | None = None,
        user_id: str,
    ) -> IModel:
        """Add an iModel whose creation takes its time, with so many changesets of ``source``.

        With ``file_size`` it waits for a baseline file of so many bytes.
        """
        imodel = self.add_imodel(itwin_id, name, description, user_id=user_id)
        imodel.extent, imodel.containers = extent, containers
        if source is not None:
            imodel.pushed = [replace(source.changeset(index)) for index in range(1, copied + 1)]
            for changeset in imodel.pushed:
                name, size = changeset.file_name, changeset.file_size
                self.storage.copy(source.id, imodel.id, name, size)
        ready_at = 0.0 if is_instant else self.clock.time() + self._creation_time
        imodel.creation = Creation(ready_at, cloned_from, forked_from)
        if file_size is not None:
            imodel.creation.file_size, imodel.creation.waits_for_file = file_size, True
        return imodel

    def confirm_baseline(self, imodel: IModel) -> None:
        """Begin to initialize an iModel with the file that it waited for."""
        imodel.creation.waits_for_file = False
        imodel.creation.ready_at = self.clock.time() + self._creation_time

    def is_initialized(self, imodel: IModel) -> bool:
        """Whether the creation of an iModel is over."""
        return imodel.creation.state(self.clock.time()) == SUCCESSFUL

    def delete_imodel(self, imodel: IModel, *, user_id: str = seed.guid("user", 0)) -> None:
        """Remove an iModel with all that belongs to it."""
        del self.imodels[imodel.id]
        self.storage.drop(imodel.id)
        self.emit(imodel, "iModelDeleted", userId=user_id)

    def push_changeset(self, imodel: IModel, file: bytes | None = None, **fields: Any) -> Changeset:
        """Add a changeset with this file and these fields, dated now."""
        index = imodel.changeset_count + 1
        usual: dict[str, Any] = {
            "index": index,
            "id": imodel.next_changeset_id(),
            "parent_id": imodel.changeset_id(index - 1) if index > 1 else "",
            "pushed_at": self.timestamp(),
            "creator_id": seed.guid("user", index % 3),
            "file_size": 1024 + seed.number(100_000, imodel.number, index),
        }
        if file is not None:
            usual["file_size"] = len(file)
        changeset = Changeset(**(usual | fields))
        if file is not None:
            self.storage.put(imodel.id, changeset.file_name, file)
        self.append_changeset(imodel, changeset)
        return changeset

    def append_changeset(self, imodel: IModel, changeset: Changeset) -> None:
        """Let a changeset be the last one of its iModel."""
        imodel.pushed.append(changeset)
        # The platform writes the index as a text.
        self.emit(
            imodel, "changesReady", changesetId=changeset.id, changesetIndex=str(changeset.index)
        )

    def add_named_version(self, imodel: IModel, version: NamedVersion) -> None:
        """Add a named version, and start its checkpoint."""
        imodel.named_versions[version.id] = version
        imodel.checkpoints[version.changeset_index] = "scheduled"
        self.emit(
            imodel,
            "namedVersionCreated",
            changesetId=version.changeset_id,
            changesetIndex=str(version.changeset_index),
            userId=version.creator_id,
            versionId=version.id,
        )
