"""Errors are data: a tree, one line each, whole after pickling, and no secret in them."""

import base64
import copy
import inspect
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.json import encode

import itwin_async
from itwin_async import errors
from itwin_async._core.redaction import one_line
from itwin_async._http.error_response import parse_error
from itwin_async.errors import (
    ConflictError,
    DecodeError,
    ErrorDetail,
    ForbiddenError,
    InvalidRequestError,
    ITwinError,
    LinkError,
    LockConflictError,
    NewerChangesError,
    NotFoundError,
    PayloadError,
    RateLimitError,
    ResponseError,
    ServerError,
    TransportError,
    UnauthorizedError,
    error_class,
)

TREE = {
    ITwinError: Exception,
    TransportError: ITwinError,
    ResponseError: ITwinError,
    InvalidRequestError: ResponseError,
    UnauthorizedError: ResponseError,
    ForbiddenError: ResponseError,
    NotFoundError: ResponseError,
    ConflictError: ResponseError,
    LockConflictError: ConflictError,
    NewerChangesError: ConflictError,
    RateLimitError: ResponseError,
    ServerError: ResponseError,
    LinkError: ITwinError,
    DecodeError: ITwinError,
    PayloadError: DecodeError,
}
TOKEN = "Canary-opaque_token.0123456789.abcdefghijklmnopqrstuvwxyz~ABCDEF+/=" * 6
JWT = "eyJhbGciOiJSUzI1NiJ9.eyJjYW5hcnkiOiJ5ZXMifQ.c2lnbmF0dXJlLWNhbmFyeS0xMjM0NQ"


def filled(kind: type[ITwinError]) -> ITwinError:
    error = kind("it went wrong", "dns") if kind is TransportError else kind("it went wrong")
    error.operation, error.request_id, error.outcome_unknown = "GET /x", "id-1", True
    if isinstance(error, ResponseError):
        error.status, error.code, error.target = 418, "Teapot", "$top"
        error.details = (ErrorDetail("InvalidValue", "not that", "$top"), ErrorDetail())
        error.retry_after = 12.5
    if isinstance(error, PayloadError):
        error.imodel_id, error.changeset_id, error.changeset_index = "i", "c", 7
    return error


def attributes(error: ITwinError) -> dict[str, object]:
    names = {name for kind in type(error).__mro__ for name in getattr(kind, "__annotations__", ())}
    assert {"operation", "request_id", "outcome_unknown"} <= names
    return {name: getattr(error, name) for name in [*names, "message", "args"]}


def shown(error: BaseException) -> str:
    return f"{error} {error!r} {error.args} {vars(error)} {error.__cause__} {error.__context__}"


def pieces_shown(secret: str, text: str, size: int = 12) -> list[str]:
    parts = (secret[at : at + size] for at in range(len(secret) - size + 1))
    return [part for part in parts if part in text]


def test_the_tree_is_the_documented_one_and_nothing_else():
    found = {
        kind: kind.__base__
        for kind in vars(errors).values()
        if inspect.isclass(kind) and issubclass(kind, Exception)
    }
    assert found == TREE


@pytest.mark.parametrize("kind", TREE)
def test_every_error_is_public(kind):
    assert getattr(itwin_async, kind.__name__) is kind


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (302, ResponseError), (304, ResponseError), (400, InvalidRequestError),
        (401, UnauthorizedError), (402, ResponseError), (403, ForbiddenError),
        (404, NotFoundError), (408, ResponseError), (409, ConflictError), (413, ResponseError),
        (422, InvalidRequestError), (425, ResponseError), (429, RateLimitError),
        (499, ResponseError), (500, ServerError), (503, ServerError), (599, ServerError),
    ],
)  # fmt: skip
def test_a_status_has_one_class(status, kind):
    assert error_class(status) is kind
    assert type(parse_error(status, b"", None)) is kind


@pytest.mark.parametrize("kind", TREE)
def test_every_error_pickles_with_all_it_knows(kind):
    error = filled(kind)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        again = pickle.loads(pickle.dumps(error, protocol))
        assert type(again) is kind
        assert attributes(again) == attributes(error)
        assert str(again) == str(error)
        assert repr(again) == repr(error)


@pytest.mark.parametrize("kind", TREE)
def test_every_error_can_be_copied(kind):
    error = filled(kind)
    assert attributes(copy.deepcopy(error)) == attributes(error)
    assert type(copy.copy(error)) is kind


@pytest.mark.parametrize("kind", TREE)
def test_every_error_can_be_made_of_a_message_alone_and_pickles_then(kind):
    again = pickle.loads(pickle.dumps(kind("alone")))
    assert again.message == "alone"
    assert attributes(again) == attributes(kind("alone"))


def test_a_class_of_a_package_with_a_longer_name_is_not_ours():
    theirs = type("Theirs", (ITwinError,), {"__module__": "itwin_async_of_mine.errors"})
    assert not errors.is_own(theirs("no"))
    assert errors.is_own(LinkError("no"))


def test_the_line_is_status_code_and_message():
    body = b'{"error":{"code":"iModelNotFound","message":"Requested iModel is not available."}}'
    assert str(parse_error(404, body, None)) == (
        "404 iModelNotFound: Requested iModel is not available."
    )


def test_the_line_says_what_the_details_say():
    details = [
        {"code": "InvalidValue", "message": "'White River' is not a valid 'iTwinId' value."},
        {"code": "InvalidParameter", "target": "$top", "message": "The value is too large."},
        {"code": "MissingRequiredProperty", "target": "data"},
    ]
    body = {"code": "InvalidiModelsRequest", "message": "Cannot get iModels", "details": details}
    error = parse_error(422, encode({"error": body}), None)
    assert str(error) == (
        "422 InvalidiModelsRequest: Cannot get iModels. 'White River' is not a valid 'iTwinId' "
        "value. $top: The value is too large. data: MissingRequiredProperty"
    )
    assert error.message == "Cannot get iModels"


def test_details_are_bounded_and_show_no_secret():
    signed = {"message": "see https://h/a?sig=canary and Bearer canary-of-the-test"}
    details = [signed, *({"message": "x" * 299, "target": "y" * 299} for _ in range(1_000))]
    error = parse_error(422, encode({"error": {"message": "No.", "details": details}}), None)
    assert len(str(error)) < 400
    assert "canary" not in str(error)
    error.details = (ErrorDetail(message="a\nb https://h/a?sig=canary"),)  # as a user's test may
    assert str(error) == "422: No. a b https://h/a?…"


def test_a_detail_that_repeats_the_message_is_not_said_twice():
    body = {"message": "No.", "details": [{"message": "No."}]}
    assert str(parse_error(400, encode({"error": body}), None)) == "400: No."


def test_a_404_says_what_was_asked_for():
    error = parse_error(404, b"", None)
    assert str(error) == "404: Not Found"
    error.path = "/imodels/i"
    assert str(error) == "404: Not Found. /imodels/i is missing, or not visible to this caller."


def test_the_line_does_without_a_code():
    assert str(parse_error(502, b"", None)) == "502: Bad Gateway"


def test_the_line_does_without_a_phrase():
    assert str(parse_error(599, b"", None)) == "599"


@pytest.mark.parametrize("kind", TREE)
def test_the_line_says_that_a_write_may_have_happened(kind):
    error = filled(kind)
    assert str(error).endswith("(it may have been carried out)")
    error.outcome_unknown = False
    assert "carried out" not in str(error)


@given(st.text(), st.text(), st.text())
def test_an_answer_is_one_line_whatever_it_says(code, message, target):
    body = {"code": code, "message": message, "target": target, "details": [{"code": message}]}
    error = parse_error(400, encode({"error": body}), None)
    assert len(str(error).splitlines()) == 1
    assert len(str(error)) < 700
    assert str(error).isprintable()


@given(st.text(max_size=2_000), st.integers(1, 400))
def test_one_line_is_one_short_printable_line(text, longest):
    line = one_line(text, longest=longest)
    assert line.isprintable()
    assert len(line) <= longest
    assert line == line.strip()


@pytest.mark.parametrize("secret", [TOKEN, JWT], ids=["opaque", "jwt"])
@pytest.mark.parametrize(
    "body",
    [
        "{}", "Bearer {}", "<html>{}</html>", "token={}&x=1", '{{"error":{{"message":"no {}"}}}}',
        '{{"error":{{"code":"{}","message":"m"}}}}', '{{"error":"{}"}}', '{{"title":"{}"}}',
        '{{"error":{{"code":"c","message":"m","target":"{}"}}}}', '{{"message":"{}"}}',
        '{{"error":{{"code":"c","message":"m","details":[{{"code":"{}"}}]}}}}',
        '{{"error":{{"code":"c","message":"m","details":[{{"message":"{0}","target":"{0}"}}]}}}}',
        '{{"error":"invalid_client","error_description":"secret {} is wrong"}}', '["{}"]',
        '{{"odata.error":{{"message":{{"lang":"en","value":"{}"}}}}}}', '{{"unknown":"{}"}}',
    ],
)  # fmt: skip
def test_a_token_that_an_answer_repeats_is_not_shown(body, secret):
    error = parse_error(400, body.format(secret).encode(), None, secrets=(secret,))
    assert not pieces_shown(secret, shown(error))
    assert secret.encode() not in pickle.dumps(error)


def test_a_token_behind_much_white_space_of_a_text_is_not_shown():
    for spaces in range(3_500, 4_001, 50):
        error = parse_error(502, b" " * spaces + TOKEN.encode(), None, secrets=(TOKEN,))
        assert not pieces_shown(TOKEN, shown(error))


def test_a_token_behind_much_white_space_of_a_message_is_not_shown():
    for spaces in range(5_500, 6_001, 50):
        body = encode({"error": {"code": "c", "message": " " * spaces + TOKEN}})
        error = parse_error(400, body, None, secrets=(TOKEN,))
        assert not pieces_shown(TOKEN, shown(error))


@pytest.mark.parametrize(
    "text",
    [
        f"Authorization: Bearer {JWT}",
        f"the token {JWT} has ended",
        f"access_token={TOKEN}",
        f'{{"access_token": "{TOKEN}"}}',
        f"'refresh_token': '{TOKEN}'",
        f"client_secret={TOKEN}&scope=x",
        f"Basic {base64.b64encode(TOKEN.encode()).decode()}",
        f"https://blob.example/x?se=2026&sp=r&sig={TOKEN}",
        f"see https://blob.example/x?code={TOKEN}.",
        f"sig={TOKEN}",
    ],
)
def test_what_looks_like_a_secret_is_not_shown_even_if_it_is_not_ours(text):
    shown_text = one_line(text)
    assert not pieces_shown(TOKEN, shown_text)
    assert not pieces_shown(JWT, shown_text)
    assert not pieces_shown(base64.b64encode(TOKEN.encode()).decode(), shown_text)


def test_ordinary_words_are_shown():
    text = "'-1' is not a valid '$skip' value: see https://developer.bentley.com/apis/"
    assert one_line(text) == text


@pytest.mark.parametrize(
    ("reason", "sent"),
    [
        ("dns", False), ("refused", False), ("unreachable", False), ("tls", False),
        ("reset", True), ("timeout", True), ("cut", True), ("malformed", True),
        ("too large", True),
    ],
)  # fmt: skip
def test_a_transport_error_knows_whether_the_request_may_have_arrived(reason, sent):
    assert TransportError("m", reason).sent is sent


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("see https://h/a'b?sig=SECRET now", "see https://h/a'b?… now"),
        ("HTTPS://h/x?q=SECRET", "HTTPS://h/x?…"),
        (r'{"u":"https:\/\/h\/a?q=SECRET","b":1}', r'{"u":"https:\/\/h\/a?…","b":1}'),
        ("https://h/plain, and more?", "https://h/plain, and more?"),
    ],
)
def test_no_query_of_a_url_is_shown(text, shown):
    assert one_line(text) == shown


def test_a_404_of_a_name_asks_for_an_id():
    error = parse_error(404, b"", None)
    error.path = "/imodels/Sun%20City"
    assert str(error).endswith("not visible to this caller. Pass an id, not a name.")
