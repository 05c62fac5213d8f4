"""Payloads: decoded when they are reached, and a bad one costs itself alone."""

import base64
import dataclasses
import pickle
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypedDict

import msgspec
import pytest

from itwin_async import DecodeError, ExtendedData, ITwinSession, PayloadError
from itwin_async.emulator import Edit, Emulator

GOOD = {"data": {"changedFiles": ["A.dgn"], "taskId": "t"}}


def b64(raw: bytes | str) -> str:
    return base64.b64encode(raw.encode() if isinstance(raw, str) else raw).decode()


GOOD_TEXT = b64(msgspec.json.encode(GOOD))
MISSING = object()
# What no payload can be had of, and then what none can be decoded of.
NO_PAYLOAD = {
    "missing": MISSING, "null": None, "number": 5, "list": [GOOD_TEXT], "object": GOOD,
    "bool": True, "no base64": "!!!", "unpadded": "eyJhIjoxMn0", "cut": GOOD_TEXT[:-3],
    "url-safe": "eyJhIjoiPz8_Pz8-In0=", "line ends": f"{GOOD_TEXT[:8]}\n{GOOD_TEXT[8:]}",
    "blank in front": f" {GOOD_TEXT}", "behind the padding": b64('{"a":12}') + b64("{}"),
    "no ASCII": "é☃", "NUL": "\x00", "one letter": "e",
}  # fmt: skip
NOT_DECODED = {
    "empty": "", "white space": b64(" \n"), "no JSON": b64("<xml/>"), "cut JSON": b64('{"a":'),
    "a list": b64("[]"), "a text": b64('"x"'), "a number": b64("5"), "null text": b64("null"),
    "invalid UTF-8": b64(b'{"a":"\xff"}'), "deep": b64('{"a":' * 50_000 + "1" + "}" * 50_000),
    "more behind": b64("{} x"), "a BOM": b64(b"\xef\xbb\xbf{}"), "NaN": b64('{"a":NaN}'),
    "lone surrogate": b64('{"a":"\\ud800"}'), "two objects": b64("{}{}"), "a zero": b64(b"\x00"),
}  # fmt: skip


class Inner(msgspec.Struct, rename="camel"):
    changed_files: list[str]
    task_id: str


class Files(msgspec.Struct):
    data: Inner


class Other(msgspec.Struct, tag="other"):
    pass


class Another(msgspec.Struct, tag="another"):
    x: int


@dataclasses.dataclass
class Plain:
    data: dict[str, Any]


class Typed(TypedDict):
    data: dict[str, Any]


@pytest.fixture
async def entries(
    emulator: Emulator, itwin: ITwinSession
) -> Callable[..., Awaitable[list[ExtendedData[Any]]]]:
    """Lists the extended data of an iModel whose payloads are these."""

    async def listed(*payloads: object, data_type: Any = None) -> list[ExtendedData[Any]]:
        def edit(page):
            for entry, payload in zip(page["extendedData"], payloads, strict=False):
                entry["data"] = payload
                if payload is MISSING:
                    del entry["data"]
            del page["extendedData"][len(payloads) :]
            page["_links"] = None

        emulator.faults.add("list_extended_data", Edit(edit))
        imodel = next(iter(emulator._state.imodels))
        return [item async for item in itwin.imodels.list_extended_data(imodel, data_type)]

    return listed


def bad(entry: ExtendedData[Any], *, payload: bool) -> PayloadError:
    with pytest.raises(PayloadError) as caught:
        _ = entry.payload if payload else entry.data
    return caught.value


async def test_a_payload_that_cannot_be_had_costs_itself_alone(entries):
    found = await entries(GOOD_TEXT, *NO_PAYLOAD.values(), GOOD_TEXT)
    assert len(found) == len(NO_PAYLOAD) + 2
    assert found[0].data == found[-1].data == GOOD
    for name, entry in zip(NO_PAYLOAD, found[1:-1], strict=True):
        for payload in (True, False):
            assert "data is not" in str(error := bad(entry, payload=payload)) or "no data" in str(
                error
            ), name


async def test_a_payload_that_does_not_decode_costs_itself_alone(entries):
    found = await entries(GOOD_TEXT, *NOT_DECODED.values(), GOOD_TEXT)
    assert len(found) == len(NOT_DECODED) + 2
    assert found[0].data == found[-1].data == GOOD
    for name, entry in zip(NOT_DECODED, found[1:-1], strict=True):
        assert entry.payload == base64.b64decode(NOT_DECODED[name])
        assert isinstance(bad(entry, payload=False), DecodeError), name


async def test_a_bad_payload_names_imodel_and_changeset(entries):
    for entry in await entries(*NO_PAYLOAD.values(), *list(NOT_DECODED.values())[:8]):
        error = bad(entry, payload=False)
        assert (error.imodel_id, error.changeset_id) == (entry.imodel_id, entry.changeset_id)
        assert error.changeset_index == entry.changeset_index
        for fact in (entry.imodel_id, entry.changeset_id, f"changeset {entry.changeset_index} "):
            assert fact in str(error)
        assert len(str(error).splitlines()) == 1
        assert error.__cause__ is None
        again = pickle.loads(pickle.dumps(error))
        assert (str(again), vars(again)) == (str(error), vars(error))


async def test_a_payload_of_another_type_is_a_payload_error(entries):
    found = await entries(GOOD_TEXT, b64('{"data":{}}'), b64("{}"), GOOD_TEXT, data_type=Files)
    assert found[0].data == found[3].data == Files(Inner(["A.dgn"], "t"))
    for entry in found[1:3]:
        assert "task" in str(bad(entry, payload=False)) or "data" in str(bad(entry, payload=False))
        assert entry.payload


@pytest.mark.parametrize(
    ("kind", "payload", "data"),
    [
        (None, GOOD, GOOD), (dict, GOOD, GOOD), (dict[str, Any], GOOD, GOOD), (Any, GOOD, GOOD),
        (Files, GOOD, Files(Inner(["A.dgn"], "t"))), (Plain, GOOD, Plain(GOOD["data"])),
        (Typed, GOOD, GOOD), (Other | Another, {"type": "another", "x": 1}, Another(1)),
        (Files | None, GOOD, Files(Inner(["A.dgn"], "t"))),
        (Annotated[dict[str, int], msgspec.Meta(max_length=1)], {"a": 1}, {"a": 1}),
        (dict[str, int], {"a": 1}, {"a": 1}),
    ],
)  # fmt: skip
async def test_a_payload_becomes_what_was_asked_for(entries, kind, payload, data):
    text = b64(msgspec.json.encode(payload))
    good, null, a_list = await entries(text, b64("null"), b64("[1]"), data_type=kind)
    assert good.data == data
    assert type(good.data) is type(data)
    bad(null, payload=False)  # an object is what is stored, whatever else the type allows
    bad(a_list, payload=False)


async def test_a_payload_is_decoded_when_it_is_first_reached_and_once(entries):
    decoded = []

    class Watched(msgspec.Struct):
        data: dict[str, Any]

        def __post_init__(self) -> None:
            decoded.append(self)

    found = await entries(GOOD_TEXT, GOOD_TEXT, data_type=Watched)
    _ = (repr(found), found[0] == found[1], hash(found[0]), found[0].payload)
    assert decoded == []
    assert found[0].data is found[0].data
    assert len(decoded) == 1


async def test_a_repr_is_one_short_line_without_the_payload(entries):
    secret = b64('{"secret":"canary"}')
    good, missing = await entries(secret, None)
    assert repr(good) == (
        f"ExtendedData(changeset_index=1, changeset_id={good.changeset_id!r}, 19 bytes)"
    )
    assert repr(missing).endswith("bad payload)")
    _ = good.data
    assert "canary" not in repr(good)


async def test_equality_is_by_id_index_and_payload(entries):
    first = await entries(GOOD_TEXT, GOOD_TEXT, None)
    again = await entries(GOOD_TEXT, b64('{"other":1}'), None, data_type=Files)
    assert first[0] == again[0]  # whatever they decode to
    assert hash(first[0]) == hash(again[0])
    assert first[1] != again[1]
    assert first[0] != first[1]
    assert first[2] == again[2]
    assert first[0] != "another thing"
    assert {first[0], again[0], first[1]} == {first[0], first[1]}


@pytest.mark.parametrize("reached", [False, True])
@pytest.mark.parametrize("kind", [None, dict, Files, Files | None])
async def test_an_entry_pickles(entries, kind, reached):
    for entry in await entries(GOOD_TEXT, GOOD_TEXT, data_type=kind):
        if reached:
            _ = entry.data
        for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
            again = pickle.loads(pickle.dumps(entry, protocol))
            assert again == entry
            assert again.data == entry.data
            assert type(again.data) is type(entry.data)
            assert again.imodel_id == entry.imodel_id


async def test_a_bad_entry_pickles_and_stays_bad(entries):
    found = await entries(None, "!!!", b64("[]"))
    for entry in pickle.loads(pickle.dumps(found)):
        assert bad(entry, payload=False).imodel_id == found[0].imodel_id
    assert pickle.loads(pickle.dumps(found)) == found


@pytest.mark.parametrize("name", NO_PAYLOAD)
async def test_what_came_in_place_of_base64_is_kept(name, entries):
    came = NO_PAYLOAD[name]
    (entry,) = await entries(came)
    error = pickle.loads(pickle.dumps(bad(entry, payload=False)))
    assert error.received == (None if came is MISSING else came)


async def test_an_entry_cannot_be_changed(entries):
    (entry,) = await entries(GOOD_TEXT)
    for name in ("changeset_index", "data", "payload"):
        with pytest.raises(AttributeError):
            setattr(entry, name, 1)


async def test_the_documented_sample_is_what_it_says(emulator, itwin):
    imodel = "5e19bee0-3aea-4355-a9f0-c6df9989ee7d"
    entry = await itwin.imodels.get_extended_data(imodel, 1)
    assert entry.data == {
        "data": {
            "changedFiles": ["A.dgn", "B.dgn"],
            "taskId": "db14f835-8d1c-4b56-9235-715ebd233814",
        }
    }


@pytest.mark.parametrize("name", [*NO_PAYLOAD, *NOT_DECODED])
async def test_one_bad_entry_asked_for_alone_is_bad_when_it_is_reached(emulator, itwin, name):
    payload = {**NO_PAYLOAD, **NOT_DECODED}[name]

    def edit(body):
        body["extendedData"].pop("data")
        if payload is not MISSING:
            body["extendedData"]["data"] = payload

    emulator.faults.add("get_extended_data", Edit(edit))
    imodel = next(iter(emulator._state.imodels))
    entry = await itwin.imodels.get_extended_data(imodel, 2)
    assert bad(entry, payload=False).changeset_index == 2


@pytest.mark.parametrize("key", ["extendedData", "extendeddata"])
async def test_both_spellings_of_the_key_are_read(emulator, itwin, key):
    def edit(body):
        body[key] = body.pop("extendedData")

    emulator.faults.add("list_extended_data", Edit(edit), None)
    emulator.faults.add("get_extended_data", Edit(edit), None)
    imodel = next(iter(emulator._state.imodels))
    found = [item async for item in itwin.imodels.list_extended_data(imodel, page_size=10)]
    assert len(found) == 25
    assert (await itwin.imodels.get_extended_data(imodel, 3)) == found[2]


@pytest.mark.parametrize("body", [{}, {"extendedData": None}, {"_links": None}, {"other": []}, []])
async def test_a_page_without_its_list_is_no_empty_end(emulator, itwin, body):
    emulator.faults.add("list_extended_data", Edit(lambda _: body), None)
    imodel = next(iter(emulator._state.imodels))
    with pytest.raises(DecodeError):
        async for _ in itwin.imodels.list_extended_data(imodel):
            pass


async def test_an_entry_equals_no_other_thing(itwin):
    imodel_id = "5e19bee0-3aea-4355-a9f0-c6df9989ee7d"
    entry = await itwin.imodels.get_extended_data(imodel_id, 1)
    assert entry != 5
    assert entry != {"imodelId": imodel_id}
    assert entry == await itwin.imodels.get_extended_data(imodel_id, 1)
