"""ITwins: projects and the like first, the two accounts last."""

from typing import Final

from itwin_async.emulator._state import seed
from itwin_async.emulator._state.extensions import EXAMPLE_ACCOUNT, PRIMARY_ACCOUNT
from itwin_async.emulator._state.seed import JSON, Size

_PLACES: Final = (
    ("White River", "Construction Project", 43.6, -91.2),
    ("Harbour Bridge", "Bridge", 51.9, 4.5),
    ("North Line", "Rail", 59.3, 18.1),
    ("Ridge Farm", "Wind Farm", 55.9, -3.2),
    ("Quay Tower", "Building", 38.7, -9.1),
)
_SUB_CLASSES: Final = ("Project", "Asset", "Project", "Portfolio", "WorkPackage", "Program")
_CLASS_OF: Final = {"Asset": "Thing", "WorkPackage": "Thing"}
CENTERS: Final = ("East US", "North Europe", "Australia East")


def _account(id: str, name: str) -> JSON:
    return _itwin(
        id,
        "Account",
        sub_class="Account",
        type=None,
        number=name,
        name=name,
        account=id,
        place=None,
        index=0,
    )


def _itwin(
    id: str,
    class_: str,
    *,
    sub_class: str,
    type: str | None,
    number: str,
    name: str,
    account: str,
    place: tuple[float, float] | None,
    index: int,
) -> JSON:
    latitude, longitude = place or (None, None)
    return {
        "id": id,
        "class": class_,
        "subClass": sub_class,
        "type": type,
        "number": number,
        "displayName": name,
        "geographicLocation": None if place is None else name,
        "latitude": latitude,
        "longitude": longitude,
        "ianaTimeZone": "America/New_York" if place is None else "Europe/London",
        "dataCenterLocation": CENTERS[index % 3],
        "status": "Active",
        "parentId": None if id == account else account,
        "iTwinAccountId": account,
        "imageName": None,
        "image": None,
        "createdDateTime": "2016-01-18T21:03:00.3704659Z"
        if index == 0
        else seed.timestamp(index, 7),
        "createdBy": seed.guid("user", index % 3),
        "lastModifiedDateTime": seed.timestamp(index + 900, 7),
        "lastModifiedBy": seed.guid("user", index % 2),
    }


def seed_itwins(size: Size) -> list[tuple[str, JSON]]:
    """All iTwins in full, with their ids."""
    itwins: list[JSON] = []
    for index in range(size.itwins - 2):
        name, type, latitude, longitude = _PLACES[index % len(_PLACES)]
        sub_class = _SUB_CLASSES[index % len(_SUB_CLASSES)]
        id, number = seed.guid(size.seed, "itwin", index), f"{index:05}-ds"
        if index == 0:
            id, number = "dc914a84-e0c9-40e2-9d14-faf5ed84147f", "00001-ds-3902795"
        elif index >= len(_PLACES):
            name = f"{name} {index}"
        itwins.append(
            _itwin(
                id,
                _CLASS_OF.get(sub_class, "Endeavor"),
                sub_class=sub_class,
                type=type,
                number=number,
                name=name,
                account=PRIMARY_ACCOUNT,
                place=(latitude, longitude),
                index=index,
            )
        )
    itwins += _account(PRIMARY_ACCOUNT, "Acme Corp."), _account(EXAMPLE_ACCOUNT, "Sensor Works")
    return [(itwin["id"], itwin) for itwin in itwins]
