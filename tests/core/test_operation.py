"""Operations become requests: quoted ids, encoded queries, versions; and answers become values."""

from datetime import UTC, datetime
from decimal import Decimal
from types import NoneType, SimpleNamespace
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from yarl import URL

from itwin_async import DecodeError, IModel, ITwinSession, Operation, StaticToken
from itwin_async._core.json import decoder
from itwin_async._core.validation import check_count, check_text, quote_segment
from itwin_async.emulator import Garbage

GET = Operation(
    "GET", "/imodels/{imodel_id}/changesets/{changeset}/extendeddata", dict, version="v2"
)
BASE = "https://api.bentley.com"


def segments(target: str) -> list[str]:
    return target.partition("?")[0].split("/")


# Ids


@settings(max_examples=500)
@given(st.text(max_size=40))
def test_an_id_is_one_segment_of_the_very_path_or_refused(text):
    try:
        target = GET.request(imodel_id=text, changeset="1").target
    except ValueError as error:
        assert len(str(error).splitlines()) == 1
        return
    parts = segments(target)
    assert parts == ["", "imodels", parts[2], "changesets", "1", "extendeddata"]
    assert unquote(parts[2]) == text
    assert target.isascii()
    assert not {" ", "?", "#", "\\"} & set(target)
    for url in (URL(f"{BASE}{target}", encoded=True).raw_path, urlsplit(f"{BASE}{target}").path):
        assert url == target
    # Nor when somebody on the way normalises what a path may hold.
    assert URL(f"{BASE}{target}").path_safe.count("/") == 5


@pytest.mark.parametrize(
    "bad",
    ["", " ", "\t", "\u2003", ".", "..", "../other", "a/b", "/", "a\\b", "a\x00", "a\r\nb", "\x1f",
     "a\x7f", "\ud800", "a\n"],
)  # fmt: skip
def test_an_id_that_would_be_another_path_is_a_value_error(bad):
    with pytest.raises(ValueError, match=r"^imodel_id must"):
        quote_segment("imodel_id", bad)


@pytest.mark.parametrize("bad", [None, 1.5, True, b"id", ["id"], object()])
def test_an_id_that_is_no_text_is_a_type_error(bad):
    with pytest.raises(TypeError, match=r"^imodel_id must be a str, not"):
        quote_segment("imodel_id", bad)


@pytest.mark.parametrize(
    ("value", "segment"),
    [
        ("a?x=1", "a%3Fx%3D1"), ("a#b", "a%23b"), ("a%2fb", "a%252fb"), ("%2e%2e", "%252e%252e"),
        ("...", "..."), ("a b", "a%20b"), ("1.0.0+build.5", "1.0.0%2Bbuild.5"), ("é", "%C3%A9"),
        ("a;b", "a%3Bb"), ("a:b@c", "a%3Ab%40c"), ("{x}", "%7Bx%7D"), ("%s", "%25s"),
        ("Set(1)", "Set%281%29"), ("~a-b_c.d", "~a-b_c.d"),
    ],
)  # fmt: skip
def test_everything_special_is_quoted(value, segment):
    assert quote_segment("id", value) == segment


def test_names_in_braces_inside_an_id_are_text():
    target = GET.request(imodel_id="{changeset}", changeset="{imodel_id}").target
    assert target == "/imodels/%7Bchangeset%7D/changesets/%7Bimodel_id%7D/extendeddata"


# Queries


@pytest.mark.parametrize(
    ("query", "sent"),
    [
        ({}, ""), ({"$top": None}, ""), ({"$top": 5}, "?$top=5"), ({"a": True}, "?a=true"),
        ({"a": False}, "?a=false"), ({"a": ""}, "?a="), ({"a": 1.5}, "?a=1.5"),
        ({"$search": "a b&c=d#e+f"}, "?$search=a%20b%26c%3Dd%23e%2Bf"),
        ({"$filter": "x eq 'é'"}, "?$filter=x%20eq%20'%C3%A9'"),
        ({"subClass": "Asset,Project", "$top": 1}, "?subClass=Asset,Project&$top=1"),
        ({"a": "%20"}, "?a=%2520"), ({"a": "x\r\nHost: evil"}, "?a=x%0D%0AHost:%20evil"),
    ],
)  # fmt: skip
def test_a_query_is_encoded_with_its_dollars_as_they_are(query, sent):
    assert Operation("GET", "/x", dict).request(query=query).target == f"/x{sent}"


@given(st.text())
def test_a_query_value_arrives_as_it_was(text):
    assume(not any(0xD800 <= ord(char) < 0xE000 for char in text))
    target = Operation("GET", "/x", dict).request(query={"a": text, "b": 1}).target
    assert parse_qsl(urlsplit(target).query, keep_blank_values=True) == [("a", text), ("b", "1")]
    assert target.isascii()
    assert target.isprintable()
    assert " " not in target


@pytest.mark.parametrize("name", ["a b", "a&b", "a=b", "a#b", "é", "a\r\nHost: evil"])
async def test_a_query_name_arrives_as_it_was(emulator, itwin, name):
    await itwin.request("GET", "/edfs/packages", query={name: 1})
    request = emulator.requests[-1]
    assert request.path == "/edfs/packages"
    assert list(request.query.items()) == [(name, "1")]


def test_a_query_value_that_cannot_be_encoded_is_a_value_error():
    with pytest.raises(ValueError):
        Operation("GET", "/x", dict).request(query={"a": "\ud800"})


# Headers and bodies


@pytest.mark.parametrize("version", ["v1", "v2", "v12"])
def test_the_version_stands_in_accept(version):
    request = Operation("GET", "/x", dict, version=version).request()
    assert request.headers["Accept"] == f"application/vnd.bentley.itwin-platform.{version}+json"


def test_version_one_is_the_default():
    assert Operation("GET", "/x", dict).version == "v1"


def test_a_request_without_a_body_has_no_content_type():
    request = Operation("POST", "/x", dict).request(headers={"Prefer": "return=minimal"})
    assert request.body is None
    assert dict(request.headers).keys() == {"Accept", "Prefer"}


def test_a_body_is_json():
    request = Operation("POST", "/x", dict).request(body={"name": "é", "iTwinId": None})
    assert request.body == '{"name":"é","iTwinId":null}'.encode()
    assert request.headers["Content-Type"] == "application/json"


def test_a_null_body_is_a_body():
    assert Operation("POST", "/x", dict).request(body=None).body == b"null"


def test_an_operation_is_named_by_method_and_template():
    assert str(GET) == "GET /imodels/{imodel_id}/changesets/{changeset}/extendeddata"
    assert str(GET.request(imodel_id="a", changeset="1").operation) == str(GET)


# Answers


class Thing(msgspec.Struct):
    name: str
    count: int = 0


@pytest.mark.parametrize(
    ("returns", "body", "value"),
    [
        (Thing, b'{"name":"a","more":[1]}', Thing("a")),
        (list[int], b"[1, 2]", [1, 2]),
        (dict[str, Thing], b'{"x":{"name":"a","count":2}}', {"x": Thing("a", 2)}),
        (bytes, b"\xff<xml/>", b"\xff<xml/>"),
        (bytes, b"", b""),
        (NoneType, b"", None),
        (NoneType, b"anything", None),
    ],
)
def test_an_answer_is_decoded_to_what_is_declared(returns, body, value):
    assert Operation("GET", "/x", returns).decode(body) == value
    assert Operation("GET", "/x", returns).decode(bytearray(body)) == value


@pytest.mark.parametrize(
    "body",
    [
        b"", b" ", b"{}", b"[]", b"null", b'{"name":null}', b'{"name":1}', b'{"name":"a"',
        b"<html>",
        b'{"name":"a"} x', b'{"name":"a","count":1.5}', b'{"name":"a","count":NaN}',
        b'\xef\xbb\xbf{"name":"a"}', b'{"name":"\xff"}', b'{"name":"\xed\xa0\x80"}',
        b'{"name":"\\ud800"}', b'{"name":"a","x":' + b"[" * 200_000, b"[" * 200_000,
        b'{"name":"a","x":' + b'{"x":' * 200_000,
        b'{"name":"a","count":' + b"9" * 100_000 + b"}",
        b'{"name":"a",}', b"{'name':'a'}", b'"name"',
    ],
    ids=range(23),
)  # fmt: skip
def test_an_answer_that_is_something_else_is_a_decode_error(body):
    with pytest.raises(DecodeError) as caught:
        Operation("GET", "/x/{id}", Thing).decode(
            body, SimpleNamespace(content_type="text/html; charset=utf-8")
        )
    error = caught.value
    assert error.operation == "GET /x/{id}"
    assert str(error).startswith("GET /x/{id} was answered with ")
    assert "(Content-Type text/html; charset=utf-8)" in str(error)
    assert len(str(error).splitlines()) == 1
    assert error.__cause__ is None


def test_an_empty_answer_is_called_so():
    with pytest.raises(DecodeError, match=r"an empty body$"):
        Operation("GET", "/x", Thing).decode(b"")


async def test_a_content_type_is_shown_short(emulator, itwin):
    emulator.faults.add("get_package", Garbage(content_type="text/html; x=" + "c" * 5_000), None)
    with pytest.raises(DecodeError, match=r"Content-Type text/html; x=c+…") as caught:
        await itwin.packages.get_package("P")
    assert len(str(caught.value)) < 500


@given(st.binary(max_size=60))
def test_any_bytes_are_a_value_or_a_decode_error(body):
    try:
        value = Operation("GET", "/x", Thing).decode(body)
    except DecodeError:
        return
    assert isinstance(value, Thing)


@pytest.mark.parametrize("kind", [object(), int | dict | Thing | list[int] | tuple[int], "Thing("])
def test_what_nothing_decodes_to_is_a_type_error(kind):
    with pytest.raises(TypeError, match="msgspec cannot decode to") as caught:
        decoder(kind)
    assert len(str(caught.value).splitlines()) == 1


# Arguments


@pytest.mark.parametrize("count", [1, 7, 1_000])
def test_a_whole_number_in_range_is_a_count(count):
    check_count("page_size", count, most=1_000)


@pytest.mark.parametrize("count", [0, -1, 1_001, 10**30])
def test_a_count_out_of_range_is_refused(count):
    with pytest.raises(ValueError, match=r"^page_size must be from 1 to 1000, not"):
        check_count("page_size", count, most=1_000)


@pytest.mark.parametrize("count", [1.0, "1", True, b"1"])
def test_a_count_that_is_no_int_is_refused(count):
    with pytest.raises(TypeError, match=r"^page_size must be an int, not"):
        check_count("page_size", count)


@pytest.mark.parametrize("text", [1, b"x", ["x"]])
def test_a_text_that_is_no_str_is_refused(text):
    with pytest.raises(TypeError, match=r"^search must be a str, not"):
        check_text("search", text)


def test_texts_are_text():
    check_text("search", None)
    check_text("search", "")
    with pytest.raises(ValueError, match=r"^search must be text"):
        check_text("search", "\ud800")


WRONG = [
    (lambda s: s.extensions.list_extensions(itwin_id=5), TypeError),
    (lambda s: s.extensions.list_extensions(search=b"x"), TypeError),
    (lambda s: s.extensions.list_extensions(page_size=0), ValueError),
    (lambda s: s.extensions.list_extensions(page_size="5"), TypeError),
    (lambda s: s.extensions.list_extensions(is_itwin_studio_app="yes"), TypeError),
    (lambda s: s.extensions.list_versions(""), ValueError),
    (lambda s: s.extensions.list_versions("a/b"), ValueError),
    (lambda s: s.extensions.list_versions(None), TypeError),
    (lambda s: s.extensions.list_versions("a", include_deprecated="yes"), TypeError),
    (lambda s: s.imodels.list_imodels(""), ValueError),
    (lambda s: s.imodels.list_imodels(None), TypeError),
    (lambda s: s.imodels.list_imodels("a", state=5), TypeError),
    (lambda s: s.imodels.list_imodels("a", page_size=1_001), ValueError),
    (lambda s: s.imodels.list_changesets("a", after_index=-1), ValueError),
    (lambda s: s.imodels.list_changesets("a", last_index="5"), TypeError),
    (lambda s: s.imodels.list_changesets("a", order="up"), ValueError),
    (lambda s: s.imodels.list_extended_data("a", int), TypeError),
    (lambda s: s.imodels.list_extended_data("a", "Thing("), TypeError),
    (lambda s: s.imodels.list_extended_data("..", page_size=5), ValueError),
    (lambda s: s.itwins.list_itwins(sub_class=["Asset"]), TypeError),
    (lambda s: s.itwins.list_itwins(status="Active", include_inactive=True), ValueError),
    (lambda s: s.itwins.list_itwins(page_size=1_001), ValueError),
]


@pytest.mark.parametrize(("call", "error"), WRONG, ids=range(len(WRONG)))
def test_a_list_checks_its_arguments_at_the_call(call, error):
    with pytest.raises(error) as caught:
        call(ITwinSession(StaticToken("t")))
    assert len(str(caught.value).splitlines()) == 1


WRONG_CALLS = [
    (lambda s: s.extensions.create_extension("", "a"), ValueError),
    (lambda s: s.extensions.create_extension("a", None), (TypeError, ValueError)),
    (lambda s: s.extensions.create_extension("a", "b", description=5), TypeError),
    (lambda s: s.extensions.get_version("a", ".."), ValueError),
    (lambda s: s.extensions.get_version("a", 5.0), TypeError),
    (lambda s: s.imodels.get_imodel("a/b"), ValueError),
    (lambda s: s.imodels.get_changeset("a", -1), ValueError),
    (lambda s: s.imodels.get_changeset("a", True), TypeError),
    (lambda s: s.imodels.get_changeset("a", None), TypeError),
    (lambda s: s.imodels.get_extended_data("a", "..", dict), ValueError),
    (lambda s: s.imodels.get_extended_data("a", 1, list[int]), TypeError),
    (lambda s: s.packages.get_package("roles"), ValueError),
    (lambda s: s.packages.get_package("a\n"), ValueError),
    (lambda s: s.itwins.get_account(""), ValueError),
    (lambda s: s.request("TRACE", "/x"), ValueError),
    (lambda s: s.request("GET", 5), TypeError),
    (lambda s: s.request("GET", "x"), ValueError),
    (lambda s: s.request("GET", "//evil/x"), ValueError),
    (lambda s: s.request("GET", "https://evil/x"), ValueError),
    (lambda s: s.request("GET", "/a b"), ValueError),
    (lambda s: s.request("GET", "/a\r\nb"), ValueError),
    (lambda s: s.request("GET", "/x", version="1"), ValueError),
    (lambda s: s.request("GET", "/x", version="v1+xml, */*"), ValueError),
    (lambda s: s.request("GET", "/x", returns=object()), TypeError),
    (lambda s: s.request("GET", "/x", query={"a": [1]}), TypeError),
    (lambda s: s.request("POST", "/x", body=object()), TypeError),
]


@pytest.mark.parametrize(("call", "error"), WRONG_CALLS, ids=range(len(WRONG_CALLS)))
async def test_a_call_checks_its_arguments_before_anything_is_sent(emulator, itwin, call, error):
    with pytest.raises(error) as caught:
        await call(itwin)
    assert len(str(caught.value).splitlines()) == 1
    assert emulator.requests == []


async def test_ids_arrive_at_the_server_as_they_were(emulator, itwin):
    for name in ("a?x=1", "a#b", "%2e%2e", "%2Froles", "1.0.0+build.5", "é☃", "a b", "...", "~"):
        await itwin.packages.get_package("SQL_CUSTOMERS_TABLE")
        with pytest.raises(Exception, match="404 PackageNotFound"):
            await itwin.packages.get_package(name)
        request = emulator.requests[-1]
        assert request.operation == "get_package"
        assert unquote(request.path.removeprefix("/edfs/packages/")) == name
        assert request.query == {}


# Dates that are none


class Valve(msgspec.Struct, rename="camel"):
    created_at: datetime | None = None
    due_on: str | None = None
    last_change: str = ""


VALVE = {"dueOn": "next week", "lastChange": "renamed valve"}


def test_a_struct_of_the_users_gets_its_data_as_it_is_or_an_error():
    operation = Operation("GET", "/valves", Valve)
    text = msgspec.json.encode({**VALVE, "createdAt": "2020-10-21T10:51:33Z"})
    assert operation.decode(text).due_on == "next week"
    with pytest.raises(DecodeError, match=r"`\$.createdAt`"):
        operation.decode(msgspec.json.encode({**VALVE, "createdAt": ""}))


@pytest.mark.parametrize("kind", [list[Valve], dict[str, Valve], tuple[Valve, ...]])
def test_a_date_of_the_users_in_a_container_is_not_mended(kind):
    valve = {**VALVE, "createdAt": ""}
    text = msgspec.json.encode({"a": valve} if kind == dict[str, Valve] else [valve])
    with pytest.raises(DecodeError):
        Operation("GET", "/valves", kind).decode(text)


def test_a_record_inside_a_struct_of_the_users_is_not_mended():
    class House(msgspec.Struct):
        imodel: IModel
        price: Decimal

    text = b'{"imodel":{"id":"a","createdDateTime":""},"price":1.10}'
    with pytest.raises(DecodeError, match="createdDateTime"):
        Operation("GET", "/houses", House).decode(text)


@pytest.mark.parametrize("kind", [list[IModel], dict[str, IModel], tuple[IModel, ...], IModel])
def test_a_date_that_is_none_is_none_in_a_record(kind):
    imodel = {
        "id": "a", "displayName": "", "description": "0001", "createdDateTime": "",
        "lastChangesetPushDateTime": "2020-10-21T10:51:33Z", "lastChange": "x", "state": "At",
    }  # fmt: skip
    shapes = {IModel: imodel, dict[str, IModel]: {"a": imodel}}
    answer = Operation("GET", "/x", kind).decode(msgspec.json.encode(shapes.get(kind, [imodel])))
    found = answer if kind is IModel else next(iter(dict(enumerate(answer)).values()))
    found = answer["a"] if kind == dict[str, IModel] else found
    assert found.created_date_time is None
    assert found.last_changeset_push_date_time == datetime(2020, 10, 21, 10, 51, 33, tzinfo=UTC)
    assert (found.display_name, found.description, found.state) == ("", "0001", "At")


def test_an_answer_without_a_bad_date_gets_the_error_it_has():
    with pytest.raises(DecodeError, match=r"Expected `str`, got `int` - at `\$.id`"):
        Operation("GET", "/x", IModel).decode(b'{"id":5,"createdDateTime":"2020-10-21T10:51:33Z"}')
    with pytest.raises(DecodeError, match=r"`\$.id`"):
        Operation("GET", "/x", IModel).decode(b'{"id":5,"createdDateTime":""}')


# Bodies


class Deep(list[object]):
    """A list in a list in a list, of which a report can show the repr."""

    def __init__(self) -> None:
        value: list[object] = []
        for _ in range(5_000):
            value = [value]
        super().__init__(value)

    def __repr__(self) -> str:
        return "Deep()"


@pytest.mark.parametrize(
    ("body", "kind", "why"),
    [
        ({"a": "\udc80"}, ValueError, "surrogates not allowed"),
        (Deep(), ValueError, "recursion"),
        (object(), TypeError, "objects of type object is unsupported"),
        ({(1, 2): 3}, TypeError, "Only dicts with str-like or number-like keys"),
    ],
    ids=["surrogate", "deep", "object", "key"],
)
def test_a_body_that_is_no_json_is_refused_in_a_sentence(body, kind, why):
    operation = Operation("POST", "/imodels", dict)
    with pytest.raises(kind, match=rf"^body must be what msgspec encodes: .*{why}") as caught:
        operation.request(body=body)
    assert type(caught.value) is kind
