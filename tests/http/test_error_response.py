"""What refusals say, in every shape, and how long they ask to wait."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http import HTTPStatus

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from itwin_async import (
    ErrorDetail,
    InvalidRequestError,
    NotFoundError,
    RateLimitError,
    ServerError,
    UnauthorizedError,
)
from itwin_async._http.error_response import parse_error, parse_retry_after

HERE = 1_795_000_000.0  # a clock that is off
SERVER = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
DATE = format_datetime(SERVER, usegmt=True)


def in_seconds(seconds: float) -> str:
    return format_datetime(SERVER + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("0", 0), ("1", 1), ("007", 7), (" 30 ", 30), ("86400", 86_400), ("999999999999", 10**12 - 1)],
)
def test_seconds_are_seconds(value, seconds):
    assert parse_retry_after(value, DATE, HERE) == seconds


def test_no_header_is_no_wait():
    assert parse_retry_after(None, DATE, HERE) is None


@pytest.mark.parametrize(
    "value",
    [
        "", " ", "soon", "-1", "+5", "1.5", "1e3", "1,5", "5 s", "0x10", "NaN", "inf", "1_000",
        "\u0663\u0660", "\uff13\uff10", "²", "5, 10",
        "1" * 13, "9" * 400, "None", "\x00", "5\n6", "true", "--",
        "Mon", "Sun, 01 Mar", "Sun, 99 Foo 2026 12:00:00 GMT", "Sun, 01 Mar 2026 99:00:00 GMT",
        "Sun, 32 Mar 2026 12:00:00 GMT", "Sun, 01 Mar 99999 12:00:00 GMT", ";", "()", "(", '"',
        "P1D", "Sun, 01 Mar 2026 12:00:00 +999999999999",
    ],
)  # fmt: skip
def test_rubbish_is_no_wait(value):
    assert parse_retry_after(value, DATE, HERE) is None


@pytest.mark.parametrize("seconds", [0, 1, 90, 86_400, 400 * 86_400])
def test_a_date_is_judged_by_the_answers_own_date(seconds):
    assert parse_retry_after(in_seconds(seconds), DATE, HERE) == seconds


def test_a_date_that_is_over_is_no_wait_at_all():
    assert parse_retry_after(in_seconds(-60), DATE, HERE) == 0.0


@pytest.mark.parametrize("date", [None, "", "today", "0", "Sun, 99 Foo 2026"])
def test_our_clock_stands_in_where_the_answer_has_no_date(date):
    here = (SERVER - timedelta(seconds=40)).timestamp()
    assert parse_retry_after(in_seconds(20), date, here) == 60.0


@pytest.mark.parametrize(
    "value",
    [
        "Sun, 01 Mar 2026 12:00:30 GMT",
        "Sunday, 01-Mar-26 12:00:30 GMT",
        "Sun Mar  1 12:00:30 2026",
        "Sun, 01 Mar 2026 12:00:30 +0000",
        "Sun, 01 Mar 2026 12:00:30 -0000",
        "Sun, 01 Mar 2026 14:00:30 +0200",
        " sun, 01 mar 2026 12:00:30 gmt ",
    ],
)
def test_all_ways_of_writing_a_date_are_read(value):
    assert parse_retry_after(value, DATE, HERE) == 30.0


@given(st.text() | st.from_regex(r"[A-Z][a-z]{2},? ?[0-9]{1,3}[ -]\w{3}[ -][0-9 :+-]{0,30}"))
def test_nothing_can_break_the_reading(value):
    for date in (None, DATE, value):
        seconds = parse_retry_after(value, date, HERE)
        assert seconds is None or 0.0 <= seconds < float("inf")


@given(st.integers(0, 10**12 - 1))
def test_all_whole_numbers_are_read(seconds):
    assert parse_retry_after(str(seconds), None, HERE) == seconds


PLATFORM = {
    "error": {
        "code": "InvalidiModelsRequest",
        "message": "Cannot get Changesets Extended Data.",
        "target": "query",
        "details": [
            {"code": "InvalidValue", "message": "'-1' is not valid.", "target": "$skip"},
            {"code": "MissingRequiredProperty", "innerError": {"code": "Deeper"}},
        ],
    }
}


def test_the_platforms_envelope_is_read_whole():
    error = parse_error(422, msgspec.json.encode(PLATFORM), 3.0)
    assert type(error) is InvalidRequestError
    assert (error.status, error.code, error.target) == (422, "InvalidiModelsRequest", "query")
    assert error.message == "Cannot get Changesets Extended Data."
    assert error.details == (
        ErrorDetail("InvalidValue", "'-1' is not valid.", "$skip"),
        ErrorDetail("MissingRequiredProperty", None, None),
    )
    assert error.retry_after == 3.0


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        ('{"code":"HeaderNotFound","message":"no"}', "HeaderNotFound", "no"),
        ('{"type":"about:blank","title":"Gone away","status":404}', None, "Gone away"),
        ('{"title":"Gone away","detail":"for good"}', None, "for good"),
        ('{"statusCode":404,"message":"Resource not found"}', None, "Resource not found"),
        (
            '{"odata.error":{"code":"x","message":{"lang":"en-US","value":"old OData"}}}',
            "x",
            "old OData",
        ),
        ('{"error":{"code":"x","message":{"lang":"en","value":"OData 3"}}}', "x", "OData 3"),
        ('{"error":"invalid_client"}', "invalid_client", "Not Found"),
        ('{"error":"invalid_client","error_description":"who?"}', "invalid_client", "who?"),
        ('{"error":{"code":"x","message":null,"target":null,"details":null}}', "x", "Not Found"),
        ('{"error":{"code":7,"message":"seven"}}', None, "seven"),
        ('{"error":{}}', None, '{"error":{}}'),
        ('{"error":null}', None, "Not Found"),
        ('{"error":[]}', None, "Not Found"),
        ('{"other":"thing"}', None, "Not Found"),
        ("<html><body>Not  here\r\n</body></html>", None, "<html><body>Not here </body></html>"),
        ("plain words", None, "plain words"),
        ("", None, "Not Found"),
        (" \n\t", None, "Not Found"),
        ("null", None, "null"),
        ("{}", None, "{}"),
        ('["a"]', None, '["a"]'),
        ('{"error":{"code":"cut","mess', None, '{"error":{"code":"cut","mess'),
    ],
)  # fmt: skip
def test_every_shape_of_refusal_says_what_it_can(body, code, message):
    error = parse_error(404, body.encode(), None)
    assert type(error) is NotFoundError
    assert (error.status, error.code, error.message) == (404, code, message)
    assert error.details == ()


@pytest.mark.parametrize("body", [b"\xff\xfe\x00", b"\xef\xbb\xbf{}", b"[" * 200_000, b"\x00" * 99])
def test_what_is_no_text_is_still_a_typed_error(body):
    error = parse_error(503, body, 5.0)
    assert type(error) is ServerError
    assert error.retry_after == 5.0
    assert str(error).isprintable()


def test_details_of_odd_shapes_are_left_out_or_empty():
    body = {"error": {"code": "c", "message": "m", "details": [None, "x", [], {}, {"code": 1}]}}
    error = parse_error(400, msgspec.json.encode(body), None)
    assert error.details == (ErrorDetail(), ErrorDetail())


def test_a_long_text_is_cut():
    error = parse_error(500, b"x" * 60_000, None)
    assert len(error.message) == 200
    assert error.message.endswith("…")


def test_a_long_message_is_cut():
    error = parse_error(500, msgspec.json.encode({"message": "x" * 60_000}), None)
    assert len(error.message) == 300


def test_the_sign_in_host_decides_the_class():
    error = parse_error(400, b'{"error":"invalid_client"}', None, kind=UnauthorizedError)
    assert type(error) is UnauthorizedError
    assert error.status == 400


def test_a_throttle_knows_its_rest():
    error = parse_error(429, b"", 17.0)
    assert type(error) is RateLimitError
    assert error.retry_after == 17.0


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(max_size=30),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["error", "code", "message", "target", "details", "detail", "value"]),
            inner,
        )
    ),
    max_leaves=20,
)


@given(JSON, st.sampled_from([300, 400, 401, 403, 404, 409, 418, 422, 429, 500, 503]))
def test_any_json_makes_a_typed_error(body, status):
    error = parse_error(status, msgspec.json.encode(body), None)
    assert error.status == status
    assert error.code is None or isinstance(error.code, str)
    assert error.target is None or isinstance(error.target, str)
    assert all(isinstance(detail, ErrorDetail) for detail in error.details)
    assert len(str(error).splitlines()) == 1


@given(st.binary(max_size=200))
def test_any_bytes_make_a_typed_error(body):
    assert parse_error(500, body, None).status == HTTPStatus.INTERNAL_SERVER_ERROR
