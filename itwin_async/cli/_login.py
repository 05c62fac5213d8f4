"""A person's login on the command line: its client, its platform, and the store of its token."""

from dataclasses import dataclass, replace
from typing import Final

from itwin_async import FileTokenStore, UserSignIn, profiles
from itwin_async.cli._credentials import from_environment
from itwin_async.cli._errors import CredentialsError

RUN_LOGIN: Final = "run: itwin-async auth login"


@dataclass(frozen=True, slots=True)
class Login:
    """A login, stored or still to come."""

    profile: str
    client_id: str
    base_url: str | None
    authority: str | None
    store: FileTokenStore
    redirect_uris: tuple[str, ...] = ()

    @property
    def is_stored(self) -> bool:
        """Whether its store exists."""
        return self.store.path.exists()

    def check_store(self) -> None:
        """Raise what its store raises that cannot be used."""
        with self.store.lock(self.client_id):
            self.store.load(self.client_id)

    def provider(self) -> UserSignIn:
        """The token provider of this login."""
        if self.redirect_uris:
            return UserSignIn(
                self.client_id,
                redirect_uris=self.redirect_uris,
                authority=self.authority,
                store=self.store,
            )
        return UserSignIn(self.client_id, authority=self.authority, store=self.store)

    def with_redirects(self, redirect_uris: tuple[str, ...]) -> "Login":
        """A copy with these redirect addresses."""
        return replace(self, redirect_uris=redirect_uris)

    def save_profile(self) -> None:
        """Store what the next command needs to find this login."""
        profiles.save(self.profile, profiles.Profile(self.client_id, self.base_url, self.authority))


def find_login(profile: str | None, client_id: str | None, base_url: str | None) -> Login:
    """The login of a profile. Options win over a named profile, which wins over the environment.

    Raises `CredentialsError` where no client is known.
    """
    name = profile or from_environment("ITWIN_PROFILE") or profiles.DEFAULT
    stored = profiles.load(name) or profiles.Profile()
    variables = profiles.Profile(
        from_environment("ITWIN_USER_CLIENT_ID") or _native_client_of_environment(),
        from_environment("ITWIN_BASE_URL") or None,
        from_environment("ITWIN_AUTHORITY") or None,
    )
    first, second = (stored, variables) if profile else (variables, stored)
    client_id = client_id or first.client_id or second.client_id
    if not client_id:
        raise CredentialsError(
            "no client id: give --client-id or ITWIN_USER_CLIENT_ID, of an application of the "
            "type Desktop/Mobile"
        )
    return Login(
        name,
        client_id,
        base_url or first.base_url or second.base_url,
        first.authority or second.authority,
        profiles.store_of(name),
    )


def _native_client_of_environment() -> str | None:
    """The client of the environment, unless it is a service, which has a secret."""
    if from_environment("ITWIN_CLIENT_SECRET"):
        return None
    return from_environment("ITWIN_CLIENT_ID") or None
