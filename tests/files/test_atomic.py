"""Atomic writes, digests of files, and locks."""

import errno
import io
import os
from pathlib import Path

import pytest

from itwin_async._files.atomic import (
    FileDigest,
    SyncedFile,
    digest_of_bytes,
    digest_of_path,
    naming_errors,
    replace_file,
    sync_file,
)
from itwin_async._files.locks import try_lock


def test_a_file_is_replaced_once_its_draft_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, draft = tmp_path / "target", tmp_path / "draft"
    target.write_bytes(b"old")
    replace, fsync = Path.replace, os.fsync
    steps: list[tuple[str, bytes, bytes]] = []

    def synced(descriptor: int) -> None:
        steps.append(("sync", target.read_bytes(), draft.read_bytes()))
        fsync(descriptor)

    def replaced(path: Path, name: Path) -> Path:
        steps.append(("rename", target.read_bytes(), draft.read_bytes()))
        return replace(path, name)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", replaced)
    replace_file(target, b"new", draft=draft)
    assert steps == [("sync", b"old", b"new"), ("rename", b"old", b"new")]
    assert target.read_bytes() == b"new"
    assert not draft.exists()


def test_a_write_that_fails_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"old")

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*draft'"):
        replace_file(target, b"new", draft=tmp_path / "draft")
    assert target.read_bytes() == b"old"


def test_every_way_to_a_digest_gives_the_same(tmp_path: Path) -> None:
    data = bytes(range(256)) * 100
    with SyncedFile(tmp_path / "file") as file:
        assert file.write(data[:1_000]) == 1_000
        assert file.write(memoryview(data)[1_000:]) == len(data) - 1_000
    assert file.tell() == len(data)
    assert file.digest == digest_of_path(tmp_path / "file") == digest_of_bytes(data)
    assert digest_of_bytes(b"") == FileDigest(
        0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    )


def test_an_error_keeps_the_name_that_it_has(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="mine") as caught, naming_errors(tmp_path):
        raise OSError(errno.EIO, "failed", "mine")
    assert caught.value.filename == "mine"


def test_a_file_without_a_descriptor_is_left_to_its_own_system() -> None:
    sync_file(io.BytesIO())


def test_a_lock_is_held_until_its_file_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with path.open("ab") as first, path.open("ab") as second:
        assert try_lock(first)
        assert not try_lock(second)
        first.close()
        assert try_lock(second)
