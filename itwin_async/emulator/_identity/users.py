"""The people who can sign in, and what each may do."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, cast, get_args

from itwin_async.emulator import _arguments
from itwin_async.emulator._identity.clients import SERVICE_CLIENT_ID
from itwin_async.emulator._state import seed
from itwin_async.emulator._state.seed import JSON

Rights = Literal["owner", "reader", "viewer", "none"]
_RIGHTS: Final[dict[str, Rights]] = {rights: rights for rights in get_args(Rights)}
DEFAULT_USERS: Final = ("owner", "reader:reader", "guest:none")


@dataclass(frozen=True, slots=True)
class User:
    """One account.

    An ``owner`` may do everything, a ``reader`` look and download, a ``viewer`` only look, and
    ``none`` nothing.
    """

    name: str
    rights: Rights
    email: str

    @property
    def id(self) -> str:
        """The id, which is the subject of its tokens."""
        return seed.guid("account", self.name)

    @property
    def can_read(self) -> bool:
        """Whether it may look at the data of the platform."""
        return self.rights != "none"

    @property
    def can_download(self) -> bool:
        """Whether it may read the files of iModels."""
        return self.rights in {"owner", "reader"}

    @property
    def can_write(self) -> bool:
        """Whether it may change the data of the platform."""
        return self.rights == "owner"

    @property
    def names(self) -> tuple[str, str]:
        """The given name and the surname."""
        given, _, surname = self.name.partition(" ")
        return given.title(), surname.title() or "Example"

    @property
    def display_name(self) -> str:
        """The whole name."""
        return " ".join(self.names)

    def to_json(self) -> JSON:
        """The account as the Users API shows it."""
        given, surname = self.names
        return {
            "id": self.id,
            "displayName": self.display_name,
            "givenName": given,
            "surname": surname,
            "email": self.email,
            "alternateEmail": None,
            "phone": None,
            "organizationName": "Acme Corp.",
            "city": "Exton",
            "country": "US",
            "language": "en",
            "createdDateTime": "2020-03-25T04:36:40.4210000Z",
        }

    def to_claims(self) -> JSON:
        """The account as the userinfo endpoint shows it."""
        given, surname = self.names
        return {
            "sub": self.id,
            "name": self.display_name,
            "given_name": given,
            "family_name": surname,
            "preferred_username": self.email,
            "email": self.email,
            "org_name": "Acme Corp.",
        }


# The platform gives a service application such an address.
SERVICE_USER: Final = User(
    "emulator service", "owner", f"{SERVICE_CLIENT_ID}@apps.imsoidc.bentley.com"
)


def parse_users(users: Sequence[str]) -> dict[str, User]:
    """Users by name, from texts such as ``ada`` and ``ray:reader``."""
    items: object = users
    if isinstance(items, str | Mapping) or not isinstance(items, Iterable):  # rights are in a str
        kind = _arguments.kind_of(items)
        raise TypeError(f"users must be a sequence of str such as 'ada:reader', not {kind}")
    parsed: dict[str, User] = {}
    for item in cast("Iterable[object]", items):
        _arguments.check_str("a user", item)
        name, colon, rights = cast("str", item).partition(":")
        name, rights = " ".join(name.split()), rights if colon else "owner"
        if not name:
            raise ValueError(f"a user must have a name, not {item!r}")
        if rights not in _RIGHTS:
            raise ValueError(
                f"the rights of a user must be owner, reader, viewer or none, not {rights!r}"
            )
        if name in parsed:
            raise ValueError(f"the user {name!r} is there twice")
        email = f"{name.lower().replace(' ', '.')}@example.com"
        parsed[name] = User(name, _RIGHTS[rights], email)
    if not parsed:
        raise ValueError("users must not be empty")
    return parsed
