"""Extensions with their versions and files: few enough to be kept, and kept to be changed."""

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from itwin_async.emulator import _seed
from itwin_async.emulator._seed import Size

PRIMARY_ACCOUNT: Final = "76c1102e-4f33-4dfa-ad93-bcd9ab717977"
EXAMPLE_ACCOUNT: Final = "803548e2-3965-4344-9845-a65c26b3dd2a"

WAITING: Final = "WaitingForUpload"
# The platform names no status but the one above; this word is the emulator's own.
READY: Final = "Valid"

_WORDS: Final = ("clash", "terrain", "camera", "issue", "cost", "section", "report", "weather")
_KINDS: Final = ("viewer", "marker", "exporter", "legend", "overlay")


@dataclass(slots=True)
class Version:
    """One version of an extension; ``files`` is empty until its archive was unpacked."""

    number: str
    created: str
    updated: str
    status: str = READY
    message: str | None = None
    deprecated: bool = False
    files: Mapping[str, bytes] = field(default_factory=dict[str, bytes])
    main: str = ""

    @property
    def archive(self) -> bytes:
        """The files as a zip archive, the same bytes each time."""
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, content in self.files.items():
                archive.writestr(zipfile.ZipInfo(name), content)
        return buffer.getvalue()


@dataclass(slots=True)
class Extension:
    """One extension; everyone sees a public one. ``unmade`` versions start at that hour."""

    id: str
    name: str
    description: str | None
    itwin_id: str
    public: bool = False
    studio: bool = False
    unmade: int | None = None
    versions: dict[str, Version] = field(default_factory=dict[str, Version])


def sha256(content: bytes) -> str:
    """The checksum the platform gives with a file."""
    return hashlib.sha256(content).hexdigest()


def _files(name: str, number: str) -> dict[str, bytes]:
    manifest = {
        "name": name,
        "version": number,
        "main": "dist/index.js",
        "dependencies": {"@itwin/core-extension": "^4.0.0"},
    }
    script = f'console.log("{name} {number}");\n' * 40
    return {
        "package.json": json.dumps(manifest, indent=2).encode(),
        "dist/index.js": script.encode(),
        "dist/assets/icon set.svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>\n",
    }


def _version(name: str, number: str, hours: int, *, deprecated: bool = False) -> Version:
    files = _files(name, number)
    created, updated = _seed.moment(hours), _seed.moment(hours + 1)
    return Version(
        number, created, updated, deprecated=deprecated, files=files, main="dist/index.js"
    )


class Extensions:
    """All extensions: public ones, and the private ones of the two accounts."""

    def __init__(self, size: Size) -> None:
        self._size = size

    @cached_property
    def by_id(self) -> dict[str, Extension]:
        """Extensions by id, in the order of lists."""
        made = self._examples()
        for owner, public in ((EXAMPLE_ACCOUNT, False), (PRIMARY_ACCOUNT, False), ("", True)):
            missing = self._size.extensions - (len(made) if owner == EXAMPLE_ACCOUNT else 0)
            made += [self._make(owner, nth, public=public) for nth in range(missing)]
        return {extension.id: extension for extension in made}

    def _examples(self) -> list[Extension]:
        sensors = Extension(
            "41d94bd4-46b8-48e9-a29a-7c7704a7e662",
            "sensor-display",
            "Extension which adds decorators to display sensors in the viewport.",
            EXAMPLE_ACCOUNT,
        )
        self._fill(sensors, 0)
        # Build metadata has a plus sign, which a path must not lose.
        for number in ("2.0.0", "2.1.0-beta.1+build.5"):
            sensors.versions[number] = _version(sensors.name, number, 500)
        info = Extension(
            "67ef40a5-d47b-4ce9-83a0-803d558478a9",
            "highlight-element-info",
            "Extension provides additional information for highlighted elements.",
            EXAMPLE_ACCOUNT,
        )
        when = "2023-08-16T13:13:17.443Z"
        info.versions["1.0.0"] = Version("1.0.0", when, when, WAITING)
        old = Extension(
            "204baa23-d99e-427d-828f-425afe25b42d", "retired-overlay", None, EXAMPLE_ACCOUNT
        )
        old.versions["0.1.1"] = _version(old.name, "0.1.1", 0, deprecated=True)
        old.versions["0.1.1"].created = "2025-09-22T12:37:08.5Z"
        old.versions["0.1.1"].updated = "2025-09-22T12:37:27.303Z"
        return [sensors, info, old]

    def _make(self, owner: str, nth: int, *, public: bool) -> Extension:
        name = f"{_WORDS[nth % len(_WORDS)]}-{_KINDS[nth % len(_KINDS)]}-{nth}"
        return Extension(
            _seed.guid(self._size.seed, "extension", owner, nth),
            name,
            None if nth % 6 == 5 else f"Adds a {name.replace('-', ' ')} to the viewport.",
            owner or EXAMPLE_ACCOUNT,
            public,
            public and nth % 10 == 9,
            nth,
        )

    def versions(self, extension: Extension) -> dict[str, Version]:
        """The versions of one extension, oldest first; the oldest of several is deprecated."""
        if extension.unmade is not None:
            self._fill(extension, extension.unmade)
            extension.unmade = None
        return extension.versions

    def publish(self, extension_id: str, number: str, files: Mapping[str, bytes] | None) -> Version:
        """The version of this number, with these files or those of any seeded version."""
        extension = self.by_id[extension_id.lower()]
        fresh = _version(extension.name, number, 900)
        version = self.versions(extension).setdefault(number, fresh)
        version.files = fresh.files if files is None else dict(files)
        version.main = fresh.main if files is None else next(iter(files), "")
        version.updated = fresh.updated
        return version

    def _fill(self, extension: Extension, hours: int) -> None:
        for nth in range(self._size.versions):
            number = f"{nth // 10}.{nth % 10}.0" if nth else "0.0.1"
            old = nth == 0 and self._size.versions > 2
            extension.versions[number] = _version(
                extension.name, number, hours + nth * 24, deprecated=old
            )
