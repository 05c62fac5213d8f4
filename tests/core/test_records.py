"""The platform's objects as structs: wire names, dates, and one line of repr."""

import pickle
from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from record_kinds import RECORDS, decode, least

from itwin_async import (
    Changeset,
    Extension,
    ExtensionFile,
    ExtensionVersion,
    IModel,
    IntegrationPackage,
    ITwin,
    Link,
)
from itwin_async._core.records import last_segment, wire_name


@pytest.mark.parametrize(
    ("name", "wire"),
    [
        ("id", "id"), ("itwin_id", "iTwinId"), ("imodel", "iModel"), ("itwin", "iTwin"),
        ("class_", "class"), ("self_", "self"), ("links", "_links"), ("sub_class", "subClass"),
        ("itwin_account_id", "iTwinAccountId"), ("iana_time_zone", "ianaTimeZone"),
        ("last_changeset_push_date_time", "lastChangesetPushDateTime"), ("is_odata", "isOdata"),
        ("download_url_expires_at", "downloadUrlExpiresAt"), ("south_west", "southWest"),
        ("data_center_location", "dataCenterLocation"), ("named_versions", "namedVersions"),
        ("current_or_preceding_checkpoint", "currentOrPrecedingCheckpoint"), ("sha256", "sha256"),
        ("is_itwin_thing", "isITwinThing"), ("of_imodel", "ofIModel"),
    ],
)  # fmt: skip
def test_a_name_on_the_wire_is_the_platforms(name, wire):
    assert wire_name(name) == wire


@pytest.mark.parametrize("kind", RECORDS)
def test_unknown_fields_are_ignored(kind):
    fields = least(kind)
    assert decode(kind, {**fields, "quiteNew": [1], "_more": {"a": None}}) == decode(kind, fields)


@pytest.mark.parametrize("kind", RECORDS)
def test_optional_means_optional_and_nullable(kind):
    fields = least(kind)
    without = decode(kind, fields)
    for item in msgspec.structs.fields(kind):
        if not item.required and getattr(without, item.name) is None:
            assert decode(kind, {**fields, item.encode_name: None}) == without, item.name


@pytest.mark.parametrize("kind", RECORDS)
def test_a_record_is_a_value(kind):
    record = decode(kind, least(kind))
    assert record == decode(kind, least(kind))
    assert pickle.loads(pickle.dumps(record)) == record
    name = msgspec.structs.fields(kind)[0].name
    with pytest.raises(AttributeError):
        setattr(record, name, "other")


@pytest.mark.parametrize("kind", RECORDS)
def test_a_record_goes_out_as_it_came_in(kind):
    record = decode(kind, least(kind))
    assert decode(kind, msgspec.to_builtins(record)) == record


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        (IntegrationPackage, "projectStage", "Beta"), (ITwin, "class", "Somewhat"),
        (ITwin, "status", "Melting"), (ExtensionVersion, "status", "Unpacking"),
        (IModel, "state", "half"), (Changeset, "state", "fileLost"),
    ],
)  # fmt: skip
def test_unknown_words_are_kept_as_text(kind, field, value):
    name = {"projectStage": "project_stage", "class": "class_"}.get(field, field)
    assert getattr(decode(kind, {**least(kind), field: value}), name) == value


def test_a_changesets_first_parent_is_empty_or_null():
    assert decode(Changeset, {"id": "a", "index": 1, "parentId": ""}).parent_id == ""
    assert decode(Changeset, {"id": "a", "index": 1, "parentId": None}).parent_id is None


def test_an_extension_knows_its_account_from_its_link():
    links = {"iTwin": {"href": "https://api.bentley.com/iTwins/80-A?x=1"}}
    assert decode(Extension, {**least(Extension), "_links": links}).itwin_id == "80-A"
    assert decode(Extension, {**least(Extension), "_links": {}}).itwin_id is None
    both = {**least(Extension), "iTwinId": "own", "_links": links}
    assert decode(Extension, both).itwin_id == "own"


@pytest.mark.parametrize(
    ("href", "last"),
    [(None, None), ("", None), ("/", None), ("/a/b", "b"), ("/a/b/", "b"), ("/a?x=/c", "a")],
)
def test_the_last_segment_of_a_link(href, last):
    assert last_segment(Link(href=href)) == last
    assert last_segment(None) is None


# Dates

DATES = {
    "2023-08-16T13:13:17.443Z": datetime(2023, 8, 16, 13, 13, 17, 443_000, UTC),
    "2025-09-22T12:37:08.5Z": datetime(2025, 9, 22, 12, 37, 8, 500_000, UTC),
    "2024-04-24T13:03:26.24-04:00": datetime(
        2024, 4, 24, 13, 3, 26, 240_000, timezone(timedelta(hours=-4))
    ),
    "2020-10-21T10:51:33.1700000Z": datetime(2020, 10, 21, 10, 51, 33, 170_000, UTC),
    "2016-01-18T21:03:00.3704659Z": datetime(2016, 1, 18, 21, 3, 0, 370_466, UTC),
    "2020-10-21T10:51:33Z": datetime(2020, 10, 21, 10, 51, 33, 0, UTC),
    "2020-10-21T10:51:33": datetime(2020, 10, 21, 10, 51, 33, 0, UTC),
    "2020-10-21T10:51:33.5": datetime(2020, 10, 21, 10, 51, 33, 500_000, UTC),
    "0001-01-01T00:00:00": datetime(1, 1, 1, tzinfo=UTC),
    "0001-01-01T00:00:00Z": datetime(1, 1, 1, tzinfo=UTC),
    "9999-12-31T23:59:59.9999999Z": None,
}
DATED = [
    (kind, item)
    for kind in RECORDS
    for item in msgspec.structs.fields(kind)
    if "datetime" in str(item.type)
]


def test_there_are_dates():
    assert len(DATED) >= 10


@pytest.mark.parametrize("text", DATES)
def test_every_date_of_every_record_is_read_with_its_offset(text):
    for kind, item in DATED:
        record = decode(kind, {**least(kind), item.encode_name: text})
        moment = getattr(record, item.name)
        if DATES[text] is None and moment is None:
            continue
        assert moment.tzinfo is not None
        if DATES[text] is not None:
            assert abs(moment - DATES[text]) <= timedelta(microseconds=1), (kind, item.name)


@pytest.mark.parametrize("text", ["0001-01-01", "", "n/a", "2020-13-45T99:99:99Z", "soon"])
def test_a_date_that_cannot_be_read_does_not_cost_the_page(text):
    for kind, item in DATED:
        record = decode(kind, {**least(kind), item.encode_name: text})
        assert getattr(record, item.name) in {None, text, datetime(1, 1, 1, tzinfo=UTC)}


# Reprs


@pytest.mark.parametrize("kind", RECORDS)
def test_a_repr_is_one_short_line_that_begins_with_the_name(kind):
    text = repr(decode(kind, least(kind)))
    assert text.startswith(f"{kind.__name__}(")
    assert len(text.splitlines()) == 1
    assert len(text) <= 120


@given(st.text(max_size=300))
def test_whatever_a_record_holds_its_repr_is_one_short_line(text):
    links = {"self": {"href": text}, "creator": {"href": text}, "download": {"href": text}}
    records = [
        decode(Extension, {"id": text, "name": text, "description": text}),
        decode(IModel, {"id": text, "displayName": text, "state": text}),
        decode(Changeset, {"id": text, "index": 1, "description": text, "_links": links}),
        decode(ITwin, {"id": text, "displayName": text, "number": text, "subClass": text}),
        decode(IntegrationPackage, {"uniqueName": text, "name": text, "version": text}),
        decode(ExtensionVersion, {"number": text, "status": text, "extension": {"name": text}}),
    ]
    for record in records:
        assert len(repr(record).splitlines()) == 1
        assert len(repr(record)) <= 120


def test_a_long_text_is_cut_in_a_repr():
    assert len(repr(decode(Changeset, {"id": "a", "index": 1, "description": "x" * 5_000}))) < 120


@pytest.mark.parametrize("kind", RECORDS)
def test_a_repr_fits_a_line_of_a_notebook_whatever_there_is_to_show(kind):
    full = {}
    for item in msgspec.structs.fields(kind):
        long = {"str | None": "x" * 200, "<class 'str'>": "y" * 200, "bool | None": False}
        if str(item.type) in long:
            full[item.encode_name] = long[str(item.type)]
        elif "Link" in str(item.type) and "Links" not in str(item.type):
            full[item.encode_name] = {"href": "https://h.example/" + "z" * 200}
    text = repr(decode(kind, {**least(kind), **full}))
    assert len(text) <= 120
    assert text.startswith(f"{kind.__name__}(")
    assert text.endswith(")")


def test_a_repr_shows_an_id_whole_where_it_can():
    guid = "5e19bee0-3aea-4355-a9f0-c6df9989ee7d"
    name = "Sun City Renewable-energy Plant with an annex of a long name"
    text = repr(decode(IModel, {"id": guid, "displayName": name, "state": "initialized"}))
    assert guid in text
    assert "Sun City Renewable-energy Plant" in text
    names = {"displayName": "White River", "subClass": "Project", "number": "00001-ds-3902795-a"}
    assert guid in repr(decode(ITwin, {"id": guid, **names}))


@given(st.text(max_size=300))
def test_the_repr_of_a_link_is_one_line_too(text):
    assert len(repr(Link(href=text)).splitlines()) == 1


def test_no_repr_shows_a_signed_query():
    url = "https://blob.example/f?sig=canary"
    link = Link(href=url, storage_type="azure")
    changeset = decode(Changeset, {"id": "a", "index": 1, "_links": {"download": {"href": url}}})
    file = decode(ExtensionFile, {"downloadUrl": url, "relativePath": "a.js"})
    version = decode(ExtensionVersion, {"number": "1", "files": [{"downloadUrl": url}]})
    for record in (link, changeset, changeset.links, file, version, version.files):
        assert "canary" not in repr(record)
    assert "https://blob.example/f" in repr(link)
