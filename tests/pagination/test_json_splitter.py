"""Entries of a page handed over while it arrives are those of the whole page."""

import base64
import contextlib
import itertools
import json
import random
import re
import tracemalloc

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from itwin_async._pagination.json_splitter import Splitter
from itwin_async.imodels.extended_data_page import STREAM_FORMAT

BAD = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
PLAIN = base64.b64encode(b'{"a":1}').decode()


def facts(entry) -> tuple[str, int, object]:
    """What an entry says, however tolerantly it was decoded."""
    data = entry._payload if hasattr(entry, "_payload") else entry.data
    if isinstance(data, str):
        with contextlib.suppress(msgspec.ValidationError):
            data = msgspec.convert(data, bytes)
    return entry.changeset_id, entry.changeset_index, data


def whole(text: bytes) -> tuple[list, object]:
    page = STREAM_FORMAT.decode_page(text)
    return [facts(entry) for entry in page.entries()], page.links


def in_pieces(text: bytes, borders: list[int]) -> tuple[list, object, list[int]]:
    """The same by way of the splitter; and how many entries came with each piece."""
    splitter = Splitter(
        STREAM_FORMAT.list_start, STREAM_FORMAT.decode_page, STREAM_FORMAT.decode_entries
    )
    entries, given_by = [], []
    places = [0, *sorted({at for at in borders if 0 < at < len(text)}), len(text)]
    for start, end in itertools.pairwise(places):
        if start < end:
            run = splitter.feed(text[start:end])
            given_by.append(len(run))
            entries += run
    page = splitter.finish()
    entries += page.entries()
    return [facts(entry) for entry in entries], page.links, given_by


# Pages are written by a seeded generator: thousands of them in the time of a hundred strategies.

NASTY = (
    "", "}", "{", "},{", "]}", '"', '\\"', "\\", '"}', '{"extendedData":[', '"extendedData":[{',
    '\\"extendedData\\":[', "\u00e9\u2603\U0001f600", "\u2028", "\x00", "[[[", "}}}}", "/",
    '","data":"', "abc", "\n\t\r", "]", ",", ":", "extendedData",
)  # fmt: skip
KNOWN = {"extendedData", "extendeddata", "_links", "changesetId", "changesetIndex", "data"}


class Writer(random.Random):
    """Writes good pages, each in some way of its own."""

    def text(self) -> str:
        return "".join(self.choices(NASTY, k=self.randrange(4)))

    def value(self, depth: int = 3) -> object:
        kind = self.randrange(7 if depth else 5)
        if kind == 5:
            return [self.value(depth - 1) for _ in range(self.randrange(4))]
        if kind == 6:
            return {self.text(): self.value(depth - 1) for _ in range(self.randrange(4))}
        return (None, self.random() < 0.5, self.randrange(-(2**40), 2**40), self.text(), 1.5)[kind]

    def unknown(self) -> dict[str, object]:
        fields = {self.text(): self.value() for _ in range(self.randrange(3))}
        return {key: value for key, value in fields.items() if key not in KNOWN}

    def data(self) -> object:
        if self.random() < 0.7:
            return base64.b64encode(self.randbytes(self.randrange(60))).decode()
        return self.value(1)

    def entry(self) -> dict[str, object]:
        fields = {"changesetId": self.text(), "changesetIndex": self.randrange(2**40)}
        if self.random() < 0.9:
            fields["data"] = self.data()
        fields.update(self.unknown())
        return dict(self.sample(list(fields.items()), len(fields)))

    def page(self) -> bytes:
        fields = list(self.unknown().items())
        key = self.choice(["extendedData", "extendedData", "extendeddata"])
        entries = [self.entry() for _ in range(self.choice([0, 1, 2, 3, 8]))]
        fields.insert(self.randint(0, len(fields)), (key, entries))
        if self.random() < 0.6:
            href = f"https://api.bentley.com/x?{self.text()}"
            links = self.choice([None, {}, {"next": None}, {"next": {"href": href}}])
            fields.insert(self.choice([0, len(fields)]), ("_links", links))
        text = json.dumps(
            dict(fields),
            indent=self.choice([None, None, 0, 2, "\t"]),
            separators=self.choice([(",", ":"), (", ", ": "), (" ,\r\n ", " :\t")]),
            ensure_ascii=self.random() < 0.5,
        )
        around = self.choice(["", " ", "\r\n", "\t "])
        return f"{around}{text}{around}".encode()

    def broken(self) -> bytes:
        text = self.page()
        at = self.randint(0, len(text))
        if self.random() < 0.3:
            return text[:at]
        return text[:at] + self.choice(BREAKS) + text[at + self.randrange(6) :]

    def borders(self, text: bytes) -> list[int]:
        return [self.randint(0, len(text)) for _ in range(self.choice([0, 1, 2, 5, 20, 60]))]


BREAKS = (
    b"", b"}", b"]", b"{", b"[", b",", b",,", b'"', b"\\", b"\xff", b"\x00", b"]}", b"null", b":",
    b" ", b"x", b'{"a":1}', b"\xef\xbb\xbf", b"\xed\xa0\x80", b",]", b"[]", b"},{",
)  # fmt: skip
SEEDS = st.integers(0, 2**64)


@pytest.mark.slow
@settings(max_examples=2_000)
@given(SEEDS)
def test_pieces_give_what_the_whole_gives(seed):
    writer = Writer(seed)
    text = writer.page()
    entries, links, _ = in_pieces(text, writer.borders(text))
    assert (entries, links) == whole(text)


@settings(max_examples=200)
@given(SEEDS)
def test_single_bytes_give_what_the_whole_gives(seed):
    text = Writer(seed).page()
    entries, links, _ = in_pieces(text, list(range(len(text))))
    assert (entries, links) == whole(text)


@pytest.mark.slow
@settings(max_examples=3_000)
@given(SEEDS)
def test_what_the_whole_rejects_is_rejected_in_pieces_and_nothing_else(seed):
    writer = Writer(seed)
    text = writer.broken()
    borders = writer.borders(text)
    try:
        expected = whole(text)
    except BAD:
        with pytest.raises(BAD):
            in_pieces(text, borders)
    else:
        entries, links, _ = in_pieces(text, borders)
        assert (entries, links) == expected


def entry(index: int, **more: object) -> dict:
    return {"changesetId": f"c{index}", "changesetIndex": index, "data": PLAIN, **more}


def page(count: int, **more: object) -> dict:
    return {"extendedData": [entry(index) for index in range(count)], **more}


@pytest.mark.parametrize("indent", [None, 2])
def test_entries_come_with_the_piece_that_completes_them(indent):
    text = json.dumps(page(100, _links={"next": None}), indent=indent).encode()
    size = len(text) // 20
    _, _, given_by = in_pieces(text, list(range(0, len(text), size)))
    assert sum(given_by) == 100  # none was left for the end
    assert min(given_by[1:-2]) >= 4
    assert max(given_by) <= 7


@pytest.mark.parametrize("before", [0, 2_000])
def test_a_key_that_is_cut_in_two_does_not_delay_the_entries(before):
    head = b'{"other":"%s",' % (b"x" * before)
    entry = {"changesetId": "a", "changesetIndex": 1, "data": PLAIN}
    entries = json.dumps([entry] * 3).encode()
    text = head + b'"extendedData" : ' + entries + b"}"
    for border in range(len(head), len(head) + len(b'"extendedData" : ')):
        found, _, given_by = in_pieces(text, [border, len(text) - 1])
        assert len(found) == 3
        assert sum(given_by) == 3, border


def test_what_looks_like_the_end_of_an_entry_delays_none_however_long_the_page_is():
    entries = [entry(index, note="},{", more="x" * 4_000) for index in range(600)]
    text = json.dumps({"extendedData": entries}).encode()
    # Each piece ends in a note, where a trial fails; together they decode 2.4 MB in vain.
    borders = [found.end() for found in re.finditer(rb'"note": "},{"', text)]
    _, _, given_by = in_pieces(text, borders)
    assert given_by == [0, *[1] * 600]


def test_a_piece_of_white_space_does_not_delay_the_entries_behind_it():
    text = json.dumps(page(5), separators=(" ,\r\n ", ":")).encode()
    ends = [found.end() for found in re.finditer(rb"\}", text)][:5]
    _, _, given_by = in_pieces(text, [border for end in ends for border in (end, end + 1)])
    assert given_by == [*[1, 0] * 5, 0]


def test_links_and_other_keys_before_the_list_do_not_delay_it():
    more = {"_links": {"next": {"href": "/x"}}, "extended": [{"a": []}], "z": "}"}
    more["other"] = {"extendedData": [{"a": 1}]}
    text = json.dumps({**more, **page(50)}).encode()
    _, _, given_by = in_pieces(text, [len(text) // 2])
    assert given_by[0] > 20


@pytest.mark.parametrize(
    "decoy",
    [
        {"meta": {"extendedData": [{"changesetId": "x", "changesetIndex": 1, "data": PLAIN}]}},
        {"note": '"extendedData":['}, {"note": '\\"extendedData\\": [{'}, {"extendedData ": [1]},
        {'x"extendedData': [entry(1)]}, {"list": [{"extendedData": []}]}, {"extendeddatA": []},
    ],
)  # fmt: skip
def test_the_key_of_something_else_is_not_the_list(decoy):
    for fields in ({**decoy, **page(5)}, {**page(5), **decoy}):
        text = json.dumps(fields).encode()
        for step in (1, 7, 1_000):
            entries, _, _ = in_pieces(text, list(range(0, len(text), step)))
            assert [index for _, index, _ in entries] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    "text",
    [
        b"", b"{}", b"[]", b"null", b'{"extendedData":null}', b'{"extendedData":{}}',
        b'{"extendedData":"x"}', b'{"extendedData":[}', b'{"extendedData":[]', b'{"extendedData":[',
        b'{"extendedData":[1]}', b'{"extendedData":[null]}', b'{"extendedData":[{}]}',
        b'{"_links":{}}', b'{"extendedData":[],}', b'{"extendedData":[]}x', b'{"extendeddata":[,]}',
    ],
)  # fmt: skip
def test_what_is_no_page_is_rejected(text):
    with pytest.raises(BAD):
        whole(text)
    for step in (1, 3, 100):
        with pytest.raises(BAD):
            in_pieces(text, list(range(0, len(text), step)))


@pytest.mark.parametrize(
    ("before", "behind"),
    [
        ("", ",]"), ("", ",,{e}]"), ("", "{e}]"), ("", " {e}]"), ("", ",{e},]"), ("", "}]"),
        ("", "]]"), ("", ";]"), (",", "]"), ("", ",[]]"), ("", ",null]"), ("", "],"),
        ("", '],"x"'), ("", "],}"),
    ],
)  # fmt: skip
def test_what_stands_wrongly_between_entries_is_rejected_at_every_border(before, behind):
    one = json.dumps(entry(1))
    text = f'{{"extendedData":[{before}{one}{behind}}}'.replace("{e}", one).encode()
    with pytest.raises(BAD):
        whole(text)
    for border in range(len(text)):
        with pytest.raises(BAD):
            in_pieces(text, [border])


def test_a_cut_page_is_rejected_wherever_it_is_cut():
    text = json.dumps(page(3, _links={"next": None}), indent=1).encode()
    for end in range(len(text)):
        with pytest.raises(BAD):
            in_pieces(text[:end], [end // 2])


def test_an_entry_that_is_none_is_told_with_the_piece_that_completes_it():
    splitter = Splitter(
        STREAM_FORMAT.list_start, STREAM_FORMAT.decode_page, STREAM_FORMAT.decode_entries
    )
    with pytest.raises(msgspec.ValidationError, match="changesetId"):
        splitter.feed(HEAD + b'{"changesetIndex":1},')


def test_a_bad_payload_costs_itself_alone():
    fields = page(20)
    fields["extendedData"][7]["data"] = "no base64"
    del fields["extendedData"][9]["data"]
    text = json.dumps(fields).encode()
    entries, _, given_by = in_pieces(text, list(range(0, len(text), 100)))
    assert len(entries) == 20
    assert entries[7][2] == "no base64"
    assert entries[9][2] is None
    assert sum(given_by) == 20


# Work


class Counting:
    """Counts the bytes given to decoders."""

    def __init__(self) -> None:
        self.decoded = 0

    def whole(self, text):
        self.decoded += len(text)
        return STREAM_FORMAT.decode_page(text)

    def run(self, text):
        self.decoded += len(text)
        return STREAM_FORMAT.decode_entries(text)


def decoded_bytes(text: bytes, piece: int) -> int:
    counting = Counting()
    splitter = Splitter(STREAM_FORMAT.list_start, counting.whole, counting.run)
    try:
        for start in range(0, len(text), piece):
            splitter.feed(text[start : start + piece])
        splitter.finish()
    except BAD:
        pass
    return counting.decoded


MIB = 1 << 20
HEAD = b'{"extendedData":['
ONE = json.dumps(entry(1)).encode()
PATHOLOGICAL = {
    "a string of braces": HEAD + b'{"x":"' + b"}" * (8 * MIB) + b'"}]}',
    "a list of strings of braces": HEAD + b'{"x":["' + b'}","' * (2 * MIB) + b'"]}]}',
    "braces before the list": b'{"x":"' + b"}" * (8 * MIB) + b'",' + HEAD[1:] + ONE + b"]}",
    "keys before the list": b'{"x":['
    + b'{"extendedData":[]},' * (MIB // 4)
    + b"0],"
    + HEAD[1:]
    + b"]}",
    "keys in a string": b'{"x":"'
    + b'\\"extendedData\\":[' * (MIB // 4)
    + b'",'
    + HEAD[1:]
    + b"]}",
    "opened again and again": b'{"extendedData":[' * (MIB // 2),
    "small entries": HEAD + b",".join([ONE] * 60_000) + b"]}",
    "braces behind the list": HEAD + ONE + b'],"x":"' + b"}" * (8 * MIB) + b'"}',
    "deep": HEAD + b'{"x":' * (MIB // 2) + b"}" * (MIB // 2) + b"]}",
    "white space": HEAD + b" " * (8 * MIB) + ONE + b"]}",
    "no end": HEAD + b'{"x":"' + b"a" * (8 * MIB),
    "braces without a list": b"}" * (8 * MIB),
}  # fmt: skip


@pytest.mark.parametrize("text", PATHOLOGICAL.values(), ids=PATHOLOGICAL)
def test_hostile_input_costs_linear_work(text):
    for piece in (64 * 1024, 16 * 1024):
        # Every byte for its own run and for the end, and the credit for what is tried in vain.
        assert decoded_bytes(text, piece) <= 6 * len(text) + 3 * MIB


def test_what_stands_before_the_list_is_searched_little_more_than_twice():
    class Searched:
        length = 0

        def search(self, text, start):
            self.length += len(text) - start
            return STREAM_FORMAT.list_start.search(text, start)

    pattern = Searched()
    splitter = Splitter(pattern, STREAM_FORMAT.decode_page, STREAM_FORMAT.decode_entries)
    text = b'{"x":"' + b"x" * MIB + b'",' + HEAD[1:] + ONE + b"]}"
    given = [splitter.feed(text[start : start + 1_024]) for start in range(0, len(text), 1_024)]
    assert sum(map(len, given)) == 1
    assert pattern.length <= 2.1 * len(text)


def test_a_good_page_is_decoded_little_more_than_once():
    fields = page(400, _links={"next": None})
    raw = random.Random(1).randbytes(15_000)
    for item in fields["extendedData"]:
        item["data"] = base64.b64encode(raw).decode()
    for indent in (None, 2):
        text = json.dumps(fields, indent=indent).encode()
        assert decoded_bytes(text, 256 * 1024) <= 1.1 * len(text)


def test_an_entry_of_the_largest_size_is_found_in_small_pieces():
    fields = page(3)
    fields["extendedData"][1]["data"] = base64.b64encode(bytes(204_800)).decode()
    text = json.dumps(fields).encode()
    entries, _, given_by = in_pieces(text, list(range(0, len(text), 4_096)))
    assert [index for _, index, _ in entries] == [0, 1, 2]
    assert sum(given_by) == 3
    assert decoded_bytes(text, 4_096) <= 6 * len(text) + 3 * MIB


def test_nothing_of_a_page_is_kept_after_its_end():
    splitter = Splitter(
        STREAM_FORMAT.list_start, STREAM_FORMAT.decode_page, STREAM_FORMAT.decode_entries
    )
    tracemalloc.start()
    try:
        splitter.feed(HEAD + b'],"x":"' + b"a" * (8 * MIB) + b'"}')
        assert tracemalloc.get_traced_memory()[0] > 8 * MIB
        splitter.finish()
        assert tracemalloc.get_traced_memory()[0] < MIB
    finally:
        tracemalloc.stop()
