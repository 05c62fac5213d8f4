"""Extensions with their versions and files."""

import hashlib
import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from itwin_async.emulator._state import seed
from itwin_async.emulator._state.collection import Collection
from itwin_async.emulator._state.seed import Size

PRIMARY_ACCOUNT: Final = "76c1102e-4f33-4dfa-ad93-bcd9ab717977"
EXAMPLE_ACCOUNT: Final = "803548e2-3965-4344-9845-a65c26b3dd2a"

WAITING: Final = "WaitingForUpload"
# The platform names no status but the one above; this word is the emulator's own.
READY: Final = "Valid"

_SUBJECTS: Final = ("clash", "terrain", "camera", "issue", "cost", "section", "report", "weather")
_KINDS: Final = ("viewer", "marker", "exporter", "legend", "overlay")


@dataclass(slots=True)
class Version:
    """One version of an extension; ``files`` is empty until its archive is unpacked."""

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
        """The files as a zip archive, with the same bytes every time."""
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, content in self.files.items():
                archive.writestr(zipfile.ZipInfo(name), content)
        return buffer.getvalue()


@dataclass(slots=True)
class Extension:
    """One extension, which everybody sees where it is public."""

    id: str
    name: str
    description: str | None
    itwin_id: str
    public: bool = False
    studio: bool = False
    versions: Collection[Version] = field(default_factory=lambda: Collection[Version](exact=True))

    def publish(self, number: str, files: Mapping[str, bytes] | None) -> Version:
        """Give the version of this number these files, or those of any seeded version."""
        published = _version(self.name, number, 900)
        version = self.versions.setdefault(number, published)
        version.files = published.files if files is None else dict(files)
        version.main = published.main if files is None else next(iter(files), "")
        version.updated = published.updated
        return version


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
    created, updated = seed.timestamp(hours), seed.timestamp(hours + 1)
    return Version(
        number, created, updated, deprecated=deprecated, files=files, main="dist/index.js"
    )


def _versions(size: Size, name: str, hours: int) -> Iterator[tuple[str, Version]]:
    """The seeded versions of an extension, oldest first; the oldest of several is deprecated."""
    for index in range(size.versions):
        number = f"{index // 10}.{index % 10}.0" if index else "0.0.1"
        deprecated = index == 0 and size.versions > 2
        yield number, _version(name, number, hours + index * 24, deprecated=deprecated)


def _extension(size: Size, owner: str, index: int, *, public: bool) -> Extension:
    name = f"{_SUBJECTS[index % len(_SUBJECTS)]}-{_KINDS[index % len(_KINDS)]}-{index}"
    return Extension(
        seed.guid(size.seed, "extension", owner, index),
        name,
        None if index % 6 == 5 else f"Adds a {name.replace('-', ' ')} to the viewport.",
        owner or EXAMPLE_ACCOUNT,
        public,
        public and index % 10 == 9,
        Collection(lambda: _versions(size, name, index), exact=True),
    )


def _documented_extensions(size: Size) -> list[Extension]:
    sensors = Extension(
        "41d94bd4-46b8-48e9-a29a-7c7704a7e662",
        "sensor-display",
        "Extension which adds decorators to display sensors in the viewport.",
        EXAMPLE_ACCOUNT,
    )
    sensors.versions.update(_versions(size, sensors.name, 0))
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
    retired = Extension(
        "204baa23-d99e-427d-828f-425afe25b42d", "retired-overlay", None, EXAMPLE_ACCOUNT
    )
    version = _version(retired.name, "0.1.1", 0, deprecated=True)
    version.created, version.updated = "2025-09-22T12:37:08.5Z", "2025-09-22T12:37:27.303Z"
    retired.versions["0.1.1"] = version
    return [sensors, info, retired]


def seed_extensions(size: Size) -> Iterator[tuple[str, Extension]]:
    """The extensions of the two accounts, the documented ones first, and the public ones."""
    extensions = _documented_extensions(size)
    for owner, public in ((EXAMPLE_ACCOUNT, False), (PRIMARY_ACCOUNT, False), ("", True)):
        missing = size.extensions - (len(extensions) if owner == EXAMPLE_ACCOUNT else 0)
        extensions += [_extension(size, owner, index, public=public) for index in range(missing)]
    for extension in extensions:
        yield extension.id, extension
