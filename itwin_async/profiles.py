"""Profiles: by name, which client signs people in, and where. Never a secret."""

import os
import re
from pathlib import Path
from typing import Final

import msgspec

from itwin_async._files.atomic import replace_file
from itwin_async.token_store import FileTokenStore, config_directory

DEFAULT: Final = "default"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Profile(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a sign-in needs to know, besides the person."""

    client_id: str | None = None
    base_url: str | None = None
    authority: str | None = None


def check_name(name: str) -> str:
    """The name of a profile; `ValueError` for what could not be a part of a file's name."""
    if not _NAME.fullmatch(name):
        raise ValueError(
            "the name of a profile has up to 64 letters, digits, dots, dashes and underscores, "
            f"and begins with a letter or digit: not {name!r}"
        )
    return name


def store_of(name: str) -> FileTokenStore:
    """The store of a profile's login: one file each, so that each may be another person's."""
    if name == DEFAULT:
        return FileTokenStore()
    return FileTokenStore(config_directory() / f"tokens-{check_name(name)}.json")


def load(name: str) -> Profile | None:
    """A profile; None where there is none. `ValueError` where the file is damaged."""
    return _read().get(check_name(name))


def save(name: str, profile: Profile) -> None:
    """Keep a profile under this name, beside the others."""
    found = _read() | {check_name(name): profile}
    path = _path()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    data = msgspec.json.format(msgspec.json.encode(found)) + b"\n"
    replace_file(path, data, draft=path.with_name(f".{path.name}.{os.getpid()}.tmp"))


def _path() -> Path:
    return config_directory() / "profiles.json"


def _read() -> dict[str, Profile]:
    path = _path()
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return {}
    try:
        return msgspec.json.decode(data, type=dict[str, Profile])
    except msgspec.DecodeError as error:
        raise ValueError(f"{path} is no file of profiles: {error}") from None
