"""What is in a destination: files of others, of other types, changed or gone."""

import asyncio
import json
import shutil
from pathlib import Path

import ingested
import msgspec
import pytest
from ingested import keys_of, rows_of

from itwin_async._files.atomic import FileDigest
from itwin_async.distributed import ingest_extended_data
from itwin_async.distributed._destination import Destination
from itwin_async.distributed._job import Job
from itwin_async.distributed._manifest import VERSION, Batch, Manifest

FAST = {"per_minute": 6_000, "batch_entries": 90, "show_progress": False}
OTHERS = ("part-00000-1f.snappy.parquet", "bad-1.jsonl", "new-1", "_SUCCESS", "notes.txt")


def test_files_of_others_stay(client, imodel_ids, tmp_path, short_minute, caplog):
    for name in OTHERS:
        (tmp_path / name).write_text(name)
    found = ingest_extended_data(client, ingested.provider, imodel_ids, tmp_path, **FAST)
    assert (found.rows, found.failures) == (360, {})
    assert [(tmp_path / name).read_text() for name in OTHERS] == list(OTHERS)
    assert f"{tmp_path} also holds 5 files of others, such as _SUCCESS" in caplog.text
    ingest_extended_data(client, ingested.provider, imodel_ids[:1], tmp_path, resume=False, **FAST)
    assert [(tmp_path / name).read_text() for name in OTHERS] == list(OTHERS)
    ours = {path.name for path in tmp_path.iterdir()} - {*OTHERS, "manifest.json"}
    assert len(ours) == 1  # what an ingest wrote, and began anew without, is gone


@pytest.mark.parametrize("resume", [True, False])
@pytest.mark.parametrize("text", ['{"name": "my app"}', '{"version": 99}', "", "[]", "\xff"])
def test_a_manifest_of_others_stays(client, tmp_path, resume, text):
    manifest = tmp_path / "manifest.json"
    manifest.write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match=r"manifest\.json is not what this version writes \(not a"):
        ingest_extended_data(client, ingested.provider, [], tmp_path, resume=resume, **FAST)
    assert manifest.read_text(encoding="latin-1") == text
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]


def test_a_manifest_that_was_changed_is_not_believed():
    batch = Batch(["a", "b"], rows=2, part=FileDigest(10, "00"))
    stored = Manifest("0123", None, "", [batch], VERSION).encode()
    assert Manifest.decode(stored).batches == [batch]
    assert Manifest.decode(msgspec.json.format(stored)).batches == [batch]  # read by someone
    for old, new in ((b'"rows":2', b'"rows":3'), (b'["a","b"]', b'["a"]'), (b"0123", b"0124")):
        with pytest.raises(ValueError, match="changed since it was written"):
            Manifest.decode(stored.replace(old, new))
    with pytest.raises(ValueError, match="another version"):
        Manifest.decode(stored.replace(b'"version":3', b'"version":1'))


def test_a_part_that_was_changed_is_made_again(
    client, platform, imodel_ids, tmp_path, short_minute
):
    first = ingest_extended_data(client, ingested.provider, imodel_ids, tmp_path, **FAST)
    before = rows_of(first.paths)
    changed, cut = map(Path, first.paths[:2])
    data = bytearray(changed.read_bytes())
    data[len(data) // 3] ^= 1  # of the same size
    changed.write_bytes(data)
    cut.write_bytes(cut.read_bytes()[:-1])
    platform.ask("forget")
    found = ingest_extended_data(client, ingested.provider, imodel_ids, tmp_path, **FAST)
    assert found.paths == first.paths
    assert rows_of(found.paths).equals(before)
    assert len(platform.arrived("list_extended_data")) == 6  # iModels of two batches


def test_a_part_that_is_gone_in_the_end_is_no_success(
    client, platform, imodel_ids, tmp_path, short_minute, monkeypatch
):
    async def disturbed(self, stopped_at, end=Job._end):
        await asyncio.to_thread(lambda: next(tmp_path.glob("part-*")).unlink())
        return await end(self, stopped_at)

    with monkeypatch.context() as disturbing:
        disturbing.setattr(Job, "_end", disturbed)
        with pytest.raises(OSError, match=r"1 of 4 parts are not in .* as they were stored"):
            ingest_extended_data(client, ingested.provider, imodel_ids, tmp_path, **FAST)
    platform.ask("forget")
    found = ingest_extended_data(client, ingested.provider, imodel_ids, tmp_path, **FAST)
    assert len(keys_of(rows_of(found.paths))) == 360
    assert len(platform.arrived("list_extended_data")) == 3  # iModels of one batch


@pytest.mark.parametrize("payload", ["field", "type", "default"])
def test_a_type_of_the_same_name_with_other_fields_is_refused(
    client, imodel_ids, tmp_path, short_minute, monkeypatch, payload
):
    ingest_extended_data(client, ingested.provider, [], tmp_path, ingested.Payload, **FAST)
    before = (tmp_path / "manifest.json").read_bytes()
    fields = {
        "field": [("data", ingested.Changes), ("more", str | None, None)],
        "type": [("data", dict[str, int])],
        "default": [("data", ingested.Changes, msgspec.field(default=None))],
    }[payload]
    changed = msgspec.defstruct("Payload", fields, module="ingested")
    monkeypatch.setattr(ingested, "Payload", changed)
    with pytest.raises(ValueError, match=r"parts of ingested\.Payload with other fields than it "):
        ingest_extended_data(client, ingested.provider, imodel_ids, tmp_path, changed, **FAST)
    assert (tmp_path / "manifest.json").read_bytes() == before
    assert not list(tmp_path.glob("part-*"))


def test_a_type_that_only_other_words_describe_is_the_same(
    client, tmp_path, short_minute, monkeypatch
):
    ingest_extended_data(client, ingested.provider, [], tmp_path, ingested.Payload, **FAST)
    described = msgspec.defstruct(
        "Payload", [("data", ingested.Changes)], module="ingested", namespace={"__doc__": "More."}
    )
    monkeypatch.setattr(ingested, "Payload", described)
    ingest_extended_data(client, ingested.provider, [], tmp_path, described, **FAST)


def test_workers_with_another_version_of_a_type_are_refused(
    client, imodel_ids, tmp_path, monkeypatch
):
    newer = msgspec.defstruct("Payload", [("data", dict[str, int])], module="ingested")
    monkeypatch.setattr(ingested, "Payload", newer)
    with pytest.raises(TypeError, match=r"ingested\.Payload has other fields on this worker"):
        ingest_extended_data(
            client, ingested.provider, imodel_ids, tmp_path, newer, **FAST | {"batch_entries": 30}
        )
    assert not list(tmp_path.glob("part-*"))


def test_a_place_that_client_and_workers_do_not_share_is_refused(client, platform, imodel_ids):
    with pytest.raises(ValueError, match=r"^destination must be the same place .* memory://out is"):
        ingest_extended_data(client, ingested.provider, imodel_ids, "memory://out", **FAST)
    assert platform.arrived() == []
    assert Destination("memory://out").sizes() == {}


def test_a_place_where_workers_cannot_write_is_refused(client, imodel_ids, tmp_path, monkeypatch):
    home = tmp_path / "out"

    def prepare_and_lose(self, prepare=Destination.prepare):
        prepare(self)
        shutil.rmtree(home)  # it is on this machine only

    monkeypatch.setattr(Destination, "prepare", prepare_and_lose)
    with pytest.raises(ValueError, match=r"^destination must be .* the worker at tcp://\S+ cannot"):
        ingest_extended_data(client, ingested.provider, imodel_ids, home, **FAST)


@pytest.mark.parametrize(
    ("destination", "error", "says"),
    [
        ("", ValueError, "^destination must be a directory or an fsspec URL, not an empty text$"),
        (" ", ValueError, "not an empty text$"),
        ("~/out", ValueError, "^destination begins with ~"),
        ("s3://", ValueError, "^destination must name a directory, and s3:// does not$"),
        (b"out", TypeError, "^destination must be a path or URL in text, not bytes$"),
        ("ftp://me:canary@host/out", ValueError, "^destination must be a URL without a password"),
    ],
)
def test_no_destination_is_refused(client, destination, error, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "part-1").touch()
    with pytest.raises(error, match=says) as refused:
        ingest_extended_data(client, ingested.provider, [], destination, **FAST)
    assert "canary" not in str(refused.value)
    assert [path.name for path in tmp_path.iterdir()] == ["part-1"]


def test_a_file_is_no_destination(client, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match=r"^destination must be a directory, and .*file is a file"):
        ingest_extended_data(client, ingested.provider, [], tmp_path / "file", **FAST)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_manifest_is_whole_at_any_moment(tmp_path, monkeypatch):
    destination = Destination(str(tmp_path))
    manifest = Manifest("0123", None, "", [], VERSION)
    destination.write_manifest(manifest)
    before = json.loads((tmp_path / "manifest.json").read_text())
    manifest.batches.append(Batch(["a"]))

    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(destination._fs, "mv", stopped, raising=True)
    with pytest.raises(KeyboardInterrupt):
        destination.write_manifest(manifest)
    assert json.loads((tmp_path / "manifest.json").read_text()) == before


def test_a_batch_that_is_read_again_takes_the_later_ones_of_its_imodels_along():
    part = FileDigest(1, "00")
    batches = [
        Batch(["a", "b"], rows=2, part=part),
        Batch(["c"], rows=1, part=part),
        Batch(["b", "c"], since="1", rows=2, part=part),
        Batch(["c"], since="2", rows=1, part=part),  # whose place was behind the one before
    ]
    manifest = Manifest("0123", None, "", batches, VERSION)
    manifest.forget({batches[0].key})
    assert [(batch.imodels, batch.rows) for batch in manifest.batches] == [
        (["a", "b"], None),
        (["c"], 1),
    ]


def test_a_record_that_is_not_whole_adds_nothing(tmp_path):
    destination = Destination(str(tmp_path))
    batches = [Batch(["a"]), Batch(["b"])]
    destination.write_manifest(Manifest("0123", None, "", batches, VERSION))
    for batch in batches:
        destination.add_to_manifest("0123", msgspec.structs.replace(batch, rows=0))
    cut = tmp_path / f"done-0123-{batches[1].key}.json"
    cut.write_bytes(cut.read_bytes()[:-9])
    found = destination.read_manifest()
    assert found is not None
    assert [batch.rows for batch in found.batches] == [0, None]
    destination.write_manifest(found)
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]
