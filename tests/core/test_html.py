"""What a notebook and rich show: escaped, bounded, without secrets and colours, nothing decoded."""

import html
import re
from datetime import UTC, datetime
from html.parser import HTMLParser

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from itwin_async import (
    Changeset,
    ChangesetLinks,
    Extension,
    ExtensionFile,
    ExtensionVersion,
    Extent,
    IModel,
    Link,
    Page,
    PayloadError,
    Point,
    Stats,
)
from itwin_async._core.records import Record
from itwin_async.imodels.extended_data_entry import Source, extended_data

HOSTILE = "<script>alert(1)</script>\"'&<img src=x onerror=alert(1)>\u202e\x00\ud800"
SIGNED = "https://blob.example/f?sv=1&sig=canary-signature"
TAGS = {"b", "table", "thead", "tbody", "tr", "th", "td", "p", "code"}


class Reader(HTMLParser):
    """Tags, attributes and text of some HTML, which must be well nested."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.cells, self.open = set(), set(), [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes.update(attrs)
        self.open.append(tag)
        if tag in {"td", "th"}:
            self.cells.append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if {"td", "th"} & set(self.open):
            self.cells[-1] += data


def page(items):
    return Page(items, f"{SIGNED}&x", None, "cursor")


def html_of(value):
    text = value._repr_html_()
    reader = Reader(text)
    assert reader.tags <= TAGS
    assert reader.attributes <= {("style", "text-align:left")}
    return text


def imodel(name="Plant", **more):
    return IModel(id="5e19bee0", display_name=name, **more)


class Row(msgspec.Struct):
    """A row of a federated package."""

    name: str
    total: float | None = None


def everything():
    """A value of each kind, each with hostile text and a signed URL where it takes them."""
    link = Link(href=SIGNED, storage_type=HOSTILE)
    file = ExtensionFile(download_url=SIGNED, relative_path=HOSTILE, is_main=True)
    version = ExtensionVersion(number=HOSTILE, files=(file,) * 9, status_message=SIGNED)
    changeset = Changeset(id=HOSTILE, index=3, links=ChangesetLinks(download=link))
    extension = Extension(id="1", name=HOSTILE, description=f"see {SIGNED} and {SIGNED.upper()}")
    entry = extended_data(HOSTILE, 3, f'{{"a": "{HOSTILE[:-1]}", "b": "{SIGNED}"}}'.encode(), "i")
    rows = [Row(HOSTILE), {"name": HOSTILE, HOSTILE: [SIGNED] * 9, "more": {"a": {"b": SIGNED}}}]
    values = [link, file, version, changeset, changeset.links, extension, entry, imodel(HOSTILE)]
    return [*values, page(values), page(rows), page([HOSTILE, (SIGNED,), 3]), Stats(requests=7)]


@pytest.mark.parametrize("value", everything(), ids=lambda value: type(value).__name__)
def test_hostile_text_is_text_and_no_signature_is_shown(value):
    text = html_of(value)
    assert "canary" not in text.lower()
    assert "sig=" not in text.lower()
    assert text.isprintable()
    assert not re.search(r"color|black|white|#[0-9a-f]{3}|rgb|background", text)


@pytest.mark.parametrize(
    "text",
    [
        "https://h/a'b?sig=canary",
        'https://h/a"b?sig=canary',
        "HTTPS://h/<a>?x'y<sig=canary",
        "see https://h/a'b?sig=canary and",
        'see "https://h/a?sig=canary" and',
        r'{"a": "https:\/\/h\/a?sig=canary", "b": 1}',
        "https://h/a b?sig=canary",
    ],
)
def test_no_query_of_a_url_is_shown_however_it_is_spelled(text):
    for value in (imodel(text), page([{text: [text], "more": (text, text)}])):
        assert "canary" not in html_of(value)


def test_what_follows_a_url_is_shown():
    text = html.unescape(html_of(imodel('see "https://h/a?sig=canary", and')))
    assert 'see "https://h/a?…", and' in text


@given(st.text(max_size=3_000))
def test_whatever_a_text_holds_its_cell_is_short_and_says_it(text):
    cells = Reader(html_of(imodel(text))).cells
    shown = cells[cells.index("display_name") + 1] if "display_name" in cells else ""
    assert len(shown) <= 100
    if text.isalnum() and len(text) <= 100:
        assert shown == text


def test_a_record_shows_the_fields_that_are_set_and_no_others():
    pushed = datetime(2024, 1, 8, 9, tzinfo=UTC)
    at = Point(latitude=1.0, longitude=2.0)
    extent = Extent(south_west=at, north_east=at)
    text = html_of(imodel(last_changeset_push_date_time=pushed, is_secured=False, extent=extent))
    cells = Reader(text).cells
    pairs = dict(zip(cells[::2], cells[1::2], strict=True))
    assert list(pairs) == [
        "id", "display_name", "last_changeset_push_date_time", "is_secured", "extent",
    ]  # fmt: skip
    assert pairs["last_changeset_push_date_time"] == "2024-01-08 09:00:00+00:00"
    assert pairs["is_secured"] == "False"
    assert pairs["extent"].startswith("Extent(south_west=Point(")
    assert text.startswith("<b>IModel</b>")


def test_an_everyday_word_is_shown_as_it_is():
    assert "Basic Viewer" in html_of(Extension(id="1", name="Basic Viewer"))


def test_a_page_is_a_row_for_each_item_with_its_main_fields():
    names = [f"Plant {index}" for index in range(3)]
    reader = Reader(html_of(page([imodel(name) for name in names])))
    assert reader.cells[:2] == ["display_name", "id"]
    assert reader.cells[2::2] == names
    mixed = Reader(html_of(page([Row("a", 1.5), {"name": "b", "unit": "m"}])))
    assert mixed.cells == ["name", "total", "unit", "a", "1.5", "", "b", "", "m"]


def test_an_empty_page_says_so():
    assert html_of(page([])) == "<b>Page(0 items, https://blob.example/f)</b>"


def test_a_page_is_bounded_whatever_is_in_it():
    wide = {f"field {index}": HOSTILE * 1_000 for index in range(500)}
    text = html_of(page([wide] * 5_000))
    assert "… and 4,980 more" in text
    assert text.count("<tr>") == 21
    assert len(text) < 150_000
    assert len(html_of(page([imodel("x" * 100_000)] * 5_000))) < 10_000
    nested = {"a": [["deep"] * 9] * 9}
    for _ in range(50):
        nested = {"a": nested, "b": [nested] * 9}
    assert len(html_of(page([nested]))) < 1_000


def test_extended_data_is_shown_undecoded():
    def never(_payload):
        raise AssertionError("a payload was decoded to be shown")

    entry = extended_data("c1", 7, b'{"data": {"taskId": "t1"}}', "i1")
    msgspec.structs.force_setattr(entry, "_source", Source("i1", entry._source.decoder, never))
    assert "t1" in html.unescape(html_of(entry))
    assert "26 bytes" in html_of(page([entry]))
    assert ("changeset_index", 7) in entry.__rich_repr__()
    with pytest.raises(AssertionError, match="was decoded"):
        _ = entry.data


def test_a_bad_payload_is_shown_as_one():
    bad = extended_data("c1", 7, None, "i1")
    with pytest.raises(PayloadError):
        _ = bad.data
    assert "bad payload" in html_of(bad)
    assert "bad payload" in html_of(page([bad]))
    assert "\ufffd" in html_of(extended_data("c1", 7, b"\xff\xfe", "i1"))


async def test_a_pager_shows_how_to_get_its_items_and_requests_nothing(itwin, emulator):
    text = html_of(itwin.itwins.list_itwins(search="<b>"))
    assert "<b>Pager(GET /itwins/)</b>" in text
    assert "[item async for item in pager]" in text
    assert emulator.requests == []


async def test_what_a_page_of_the_platform_shows_is_what_it_holds(itwin):
    found = await anext(itwin.extensions.list_extensions().pages())
    cells = Reader(html_of(found)).cells
    assert cells[2::2] == [extension.name for extension in found.items[:20]]


@pytest.mark.parametrize("value", everything()[:8], ids=lambda value: type(value).__name__)
def test_rich_gets_the_main_fields_and_no_signature(value):
    shown = str(value.__rich_repr__())
    assert "canary" not in shown
    if isinstance(value, Record) and not isinstance(value, Link):
        assert {name for name, _ in value.__rich_repr__()} <= set(value._repr_fields)


def test_bytes_are_shown_by_their_number():
    record = msgspec.defstruct("Blob", [("content", bytes)])(b"canary" * 300)
    text = html_of(page([record]))
    assert "1,800 bytes" in text
    assert "canary" not in text
