"""The Users API, as far as it says who is signed in."""

from datetime import datetime
from typing import ClassVar, Final

import msgspec

from itwin_async._core.operation import Operation
from itwin_async._core.records import Record, assume_utc


class User(Record, frozen=True, kw_only=True):
    """A person with an account of the platform."""

    id: str
    display_name: str | None = None
    given_name: str | None = None
    surname: str | None = None
    email: str | None = None
    alternate_email: str | None = None
    phone: str | None = None
    organization_name: str | None = None
    city: str | None = None
    country: str | None = None
    language: str | None = None
    created_date_time: datetime | None = None

    _repr_fields: ClassVar = ("display_name", "id", "email", "organization_name")

    def __post_init__(self) -> None:
        assume_utc(self, "created_date_time")


class UserBody(msgspec.Struct):
    """The answer with one user."""

    user: User


GET_ME: Final = Operation("GET", "/users/me", UserBody)
