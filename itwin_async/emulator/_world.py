"""What the emulator knows: iTwins, iModels, changesets and extended data, made when asked for."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from itwin_async.emulator import _seed
from itwin_async.emulator._extension_data import Extensions
from itwin_async.emulator._itwin_data import CENTERS, make_itwins
from itwin_async.emulator._package_data import Packages
from itwin_async.emulator._seed import JSON, Size

_NAMES: Final = ("Substation", "Tunnel", "Terminal", "Viaduct", "Treatment Plant", "Depot")

_EXAMPLE_IMODEL: Final = "5e19bee0-3aea-4355-a9f0-c6df9989ee7d"
_EXAMPLE_TASK: Final = "db14f835-8d1c-4b56-9235-715ebd233814"
# The changeset ids of the documented samples, by their index.
_EXAMPLE_CHANGESETS: Final = {
    1: "78c09f3337370b26acabead1790d77b2a6ebc6ee",
    2: "a1ecbdc8c4f6173004f9f881914a57c5511a362b",
    255: "f7618612c572d7db8e3e6095d622d0d8aff22874",
    256: "1f2e04b666edce395e37a795e2231e995cbf8349",
}
_EXAMPLE_DATA: Final = _seed.encode(_seed.payload(("A.dgn", "B.dgn"), _EXAMPLE_TASK))


@dataclass(frozen=True, slots=True)
class IModel:
    """One iModel: where it stands in the seeded data, and whose it is."""

    nth: int
    id: str
    itwin_id: str
    name: str
    description: str | None
    created: str


class World:
    """All state of one emulator."""

    def __init__(self, size: Size) -> None:
        self.size = size
        self.extensions = Extensions(size)
        self.packages = Packages(size)
        self._pushed: dict[int, int] = {}
        self._written: dict[int, dict[int, str]] = {}

    @cached_property
    def itwins(self) -> dict[str, JSON]:
        """ITwins in full, by id: projects and the like first, the two accounts last."""
        return make_itwins(self.size)

    def itwin(self, id: str) -> JSON | None:
        """The iTwin with this id, in any case of letters."""
        return self.itwins.get(id.lower())

    @cached_property
    def imodels(self) -> dict[str, IModel]:
        """All iModels by id, dealt out in turn to the iTwins that are no accounts."""
        owners = [id for id, item in self.itwins.items() if item["class"] != "Account"]
        made: list[IModel] = []
        for nth in range(self.size.imodels):
            id = _seed.guid(self.size.seed, "imodel", nth)
            name = f"{_NAMES[nth % len(_NAMES)]} {nth}"
            if nth == 0:
                id, name = _EXAMPLE_IMODEL, "Sun City Renewable-energy Plant"
            about = None if nth % 5 == 4 else f"Model of {name}"
            owner, created = owners[nth % len(owners)], _seed.moment(nth, 7)
            made.append(IModel(nth, id, owner, name, about, created))
        return {imodel.id: imodel for imodel in made}

    def imodel_json(self, imodel: IModel, origin: str) -> JSON:
        """One iModel as the platform shows it in full."""
        url = f"{origin}/imodels/{imodel.id}"
        creator = _seed.guid("user", imodel.nth % 3)
        count = self.changeset_count(imodel)
        south, west = 36.0 + imodel.nth % 20, -115.0 + imodel.nth % 40
        return {
            "id": imodel.id,
            "displayName": imodel.name,
            "dataCenterLocation": CENTERS[imodel.nth % 3],
            "name": imodel.name,
            "description": imodel.description,
            "state": "initialized",
            "createdDateTime": imodel.created,
            "lastChangesetPushDateTime": _pushed(imodel.nth, count) if count else None,
            "iTwinId": imodel.itwin_id,
            "isSecured": False,
            "extent": {
                "southWest": {"latitude": south, "longitude": west},
                "northEast": {"latitude": south + 0.25, "longitude": west + 0.25},
            },
            "containersEnabled": 0,
            "_links": {
                "creator": {"href": f"{url}/users/{creator}"},
                "changesets": {"href": f"{url}/changesets"},
                "namedVersions": {"href": f"{url}/namedversions"},
            },
        }

    def changeset_count(self, imodel: IModel) -> int:
        """How many changesets the iModel has; their indexes are 1, 2, 3, and so on."""
        return self.size.changesets + self._pushed.get(imodel.nth, 0)

    def changeset_id(self, imodel: IModel, index: int) -> str:
        """The id of one changeset."""
        if imodel.nth == 0 and index in _EXAMPLE_CHANGESETS:
            return _EXAMPLE_CHANGESETS[index]
        return _seed.changeset_id(self.size.seed, imodel.nth, index)

    def find_changeset(self, imodel: IModel, id_or_index: str) -> int | None:
        """The index of the changeset with this id, or with this index."""
        text, count = id_or_index.lower(), self.changeset_count(imodel)
        if text.isascii() and text.isdigit() and len(text) < 40:
            return int(text) if 1 <= int(text) <= count else None
        ids = (index for index in range(1, count + 1) if self.changeset_id(imodel, index) == text)
        return next(ids, None)

    def changeset_json(self, imodel: IModel, index: int, origin: str, *, full: bool) -> JSON:
        """One changeset, minimal or as its representation."""
        url, id = f"{origin}/imodels/{imodel.id}", self.changeset_id(imodel, index)
        creator = _seed.guid("user", index % 3)
        nth = 15 if imodel.nth == 0 and index == 256 else index
        links: JSON = {
            "self": {"href": f"{url}/changesets/{id}"},
            "creator": {"href": f"{url}/users/{creator}"},
        }
        item: JSON = {
            "id": id,
            "displayName": str(index),
            "description": None if index % 7 == 0 else f"Changeset {nth}",
            "index": index,
            "parentId": self.changeset_id(imodel, index - 1) if index > 1 else "",
            "creatorId": creator,
            "pushDateTime": _pushed(imodel.nth, index),
            "state": "fileUploaded",
            "containingChanges": (0, 4, 1, 12)[index % 4],
            "fileSize": 1024 + _seed.number(100_000, imodel.nth, index),
            "briefcaseId": 2 + index % 5,
            "groupId": None,
            "_links": links,
        }
        if full:
            task = _seed.guid(self.size.seed, "task", imodel.nth, index)
            item["application"] = {"id": "imodel-synchronizer", "name": "iModel Synchronizer"}
            item["synchronizationInfo"] = {"taskId": task, "changedFiles": None}
            # A download needs a permission that the emulator's application does not have.
            links |= {"namedVersion": None, "currentOrPrecedingCheckpoint": None, "download": None}
        return item

    def push_changeset(self, imodel: IModel) -> int:
        """One more changeset at the end, without extended data."""
        self._pushed[imodel.nth] = self._pushed.get(imodel.nth, 0) + 1
        return self.changeset_count(imodel)

    def data_indexes(self, imodel: IModel) -> Sequence[int]:
        """The indexes of all changesets with extended data, in order."""
        seeded = range(1, self.size.changesets + 1, self.size.extended_data_every)
        written = self._written.get(imodel.nth)
        return sorted([*seeded, *written]) if written else seeded

    def has_data(self, imodel: IModel, index: int) -> bool:
        """Whether this changeset has extended data."""
        if index in self._written.get(imodel.nth, {}):
            return True
        return index in range(1, self.size.changesets + 1, self.size.extended_data_every)

    def write_data(self, imodel: IModel, index: int, text: str) -> None:
        """Give a changeset its extended data."""
        self._written.setdefault(imodel.nth, {})[index] = text

    def data_json(self, imodel: IModel, index: int) -> JSON:
        """One entry of extended data."""
        text = self._written.get(imodel.nth, {}).get(index)
        if text is None and imodel.nth == 0 and index <= 2:
            text = _EXAMPLE_DATA
        return {
            "changesetId": self.changeset_id(imodel, index),
            "changesetIndex": index,
            "data": text or _seed.extended_data(self.size, imodel.nth, index),
        }


def _pushed(imodel: int, index: int) -> str:
    return _seed.moment(imodel * 3 + index * 5, 7)
