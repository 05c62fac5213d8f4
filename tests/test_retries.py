"""Law 8 as a table: what is tried again, for which methods, and what it costs."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from itwin_async import DecodeError, LinkError, PayloadError, Retry, TransportError
from itwin_async.errors import error_class
from itwin_async.retries import RetryState

METHODS = ("GET", "HEAD", "PUT", "DELETE", "POST", "PATCH")
IDEMPOTENT = {"GET", "HEAD", "PUT", "DELETE"}
READS = {"GET", "HEAD"}
WRITES = {"PUT", "DELETE", "POST", "PATCH"}
NONE: set[str] = set()
NOW = 1_000.0  # seconds


def status(number: int, retry_after: float | None = None):
    error = error_class(number)("no")
    error.status, error.retry_after = number, retry_after
    return error


def transport(reason: str):
    return TransportError("no", reason)


# condition: which methods try it again, and for which a final failure is in doubt
TABLE = [
    (status(429), NONE, NONE),  # no attempt is used up: its wait is the limiter's
    (transport("refused"), set(METHODS), NONE),
    (transport("dns"), set(METHODS), NONE),
    (transport("unreachable"), set(METHODS), NONE),
    (transport("reset"), IDEMPOTENT, WRITES),
    (transport("timeout"), IDEMPOTENT, WRITES),
    (transport("cut"), IDEMPOTENT, WRITES),
    (transport("tls"), NONE, NONE),
    (transport("proxy"), NONE, NONE),
    (transport("too large"), NONE, WRITES),
    *((status(number), IDEMPOTENT, WRITES) for number in (408, 500, 502, 503, 504, 599)),
    (status(425), IDEMPOTENT, NONE),
    *(
        (status(number), NONE, NONE)
        for number in (300, 302, 304, 400, 401, 402, 403, 404, 405, 409, 410, 413, 418, 422, 499)
    ),
    (DecodeError("no"), {"GET"}, WRITES),
    (PayloadError("no"), {"GET"}, WRITES),
    (LinkError("no"), NONE, NONE),
]


def attempts(method: str = "GET", **options: float) -> RetryState:
    return RetryState(Retry(**{"attempts": 4, **options}), method)


@pytest.mark.parametrize("method", METHODS)
def test_the_table_of_what_is_tried_again(method):
    for error, retried, _ in TABLE:
        delay = attempts(method).delay(error, NOW)
        assert (delay is not None) is (method in retried), repr(error)


@pytest.mark.parametrize("method", METHODS)
def test_the_table_of_what_may_have_happened(method):
    for error, _, doubted in TABLE:
        assert attempts(method).outcome_unknown(error) is (method in doubted), repr(error)


@pytest.mark.parametrize("number", [404, 409])
def test_gone_or_there_already_after_an_unknown_outcome_may_be_this_very_call(number):
    for method in ("PUT", "DELETE"):
        going = attempts(method)
        assert going.delay(transport("reset"), NOW) is not None
        assert going.outcome_unknown(status(number))
        # Nor does another refusal say that the attempt before it did nothing.
        assert going.outcome_unknown(status(422))
        assert not attempts(method).outcome_unknown(status(422))


def test_gone_after_a_refused_connection_has_a_known_outcome():
    going = attempts("DELETE")
    assert going.delay(transport("refused"), NOW) is not None
    assert not going.outcome_unknown(status(404))


@pytest.mark.parametrize("most", [1, 2, 4, 9])
def test_attempts_count_the_first_one(most):
    going, delays = attempts(attempts=most), 0
    while delays < 20 and going.delay(transport("reset"), NOW) is not None:
        delays += 1
    assert delays == most - 1


def test_faults_of_all_kinds_use_up_the_same_attempts():
    going = attempts(attempts=3)
    assert going.delay(transport("refused"), NOW) is not None
    assert going.delay(status(503), NOW) is not None
    assert going.delay(transport("cut"), NOW) is None


def test_throttles_use_up_no_attempt():
    going = attempts(attempts=2)
    for _ in range(50):
        assert going.delay(status(429, 1.0), NOW) is None
    assert going.faults == 0
    assert going.delay(status(500), NOW) is not None


def test_what_does_not_decode_is_tried_again_once():
    going = attempts(attempts=9)
    assert going.delay(DecodeError("no"), NOW) is not None
    assert going.delay(status(500), NOW) is not None
    assert going.delay(DecodeError("no"), NOW) is None


def test_what_does_not_decode_is_an_attempt_too():
    assert attempts(attempts=1).delay(DecodeError("no"), NOW) is None


def test_progress_starts_the_attempts_anew():
    going = attempts(attempts=2)
    for _ in range(20):
        assert going.delay(transport("cut"), NOW) is not None
        going.progressed()
        assert going.delay(DecodeError("no"), NOW) is not None
        going.progressed()


def test_a_failure_that_is_final_uses_up_nothing():
    going = attempts()
    for error in (status(404), transport("tls"), LinkError("no")):
        assert going.delay(error, NOW) is None
    assert going.faults == 0


def test_a_server_error_waits_as_long_as_it_asks():
    for _ in range(20):
        assert attempts().delay(status(503, 30.0), NOW) == 30.0
        assert attempts(base=0.5).delay(status(503, 0.0), NOW) <= 0.5


def test_a_server_error_that_asks_for_too_long_is_final():
    assert attempts(max_retry_after=30.0).delay(status(503, 30.0), NOW) == 30.0
    assert attempts(max_retry_after=30.0).delay(status(503, 30.1), NOW) is None


def test_backoff_doubles_up_to_its_cap_and_is_random_within_half():
    retry = Retry(base=0.5, cap=20.0)
    for fault, longest in enumerate((0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 20.0, 20.0), start=1):
        waits = [retry.backoff(fault) for _ in range(200)]
        assert longest / 2 <= min(waits) < 0.6 * longest
        assert 0.9 * longest < max(waits) <= longest


def test_backoff_leaves_the_chance_of_a_program_alone():
    """Workers that seed it alike must not wait alike, and it goes on as it would have."""
    waits = []
    for _ in range(2):
        random.seed(1)
        before = random.getstate()
        waits.append([Retry().backoff(1) for _ in range(3)])
        assert random.getstate() == before
    assert waits[0] != waits[1]


@given(
    st.integers(1, 10**9), st.floats(0, 1e6), st.floats(0, 1e6)
)  # fmt: skip
def test_backoff_never_breaks_and_never_exceeds_its_cap(fault, base, cap):
    assert 0 <= Retry(base=base, cap=cap).backoff(fault) <= cap


def test_max_outage_replaces_attempts_in_an_outage_from_the_first_fault_on():
    going = attempts(attempts=1, max_outage=60.0)
    assert going.delay(status(503), NOW, outage=True) is not None
    assert going.fault(status(503), NOW + 59.9, outage=True)
    assert not going.fault(status(503), NOW + 60.0, outage=True)
    assert going.outage_end == NOW + 60.0


def test_after_an_outage_attempts_count_anew_what_max_outage_had_replaced():
    going = attempts(attempts=2, max_outage=60.0)
    for _ in range(20):
        assert going.delay(status(503), NOW, outage=True) is not None
    assert going.delay(status(500), NOW) is not None
    assert going.delay(status(500), NOW) is None


def test_without_max_outage_attempts_count_in_an_outage_too():
    going = attempts(attempts=3)
    assert going.delay(status(503), NOW, outage=True) is not None
    assert going.fault(transport("refused"), NOW, outage=True)
    assert not going.fault(transport("refused"), NOW, outage=True)


@pytest.mark.parametrize("reason", ["dns", "refused", "unreachable", "reset"])
def test_max_outage_holds_for_one_call_that_finds_no_server(reason):
    going = attempts(attempts=1, max_outage=60.0)
    assert going.delay(transport(reason), NOW) is not None
    assert going.delay(transport(reason), NOW + 60.0) is None


@pytest.mark.parametrize("error", [status(500), transport("timeout"), transport("cut")])
def test_max_outage_is_not_for_one_bad_resource(error):
    assert attempts(attempts=1, max_outage=60.0).delay(error, NOW) is None


def test_progress_begins_the_time_of_an_outage_anew():
    going = attempts(max_outage=60.0)
    assert going.delay(transport("reset"), NOW) is not None
    going.progressed()
    assert going.delay(transport("reset"), NOW + 1_000.0) is not None


def test_progress_begins_the_sum_of_throttles_anew():
    going = attempts(max_throttled=60.0)
    going.throttled, going.throttles = 59.0, 5
    going.progressed()
    assert (going.throttled, going.throttles) == (0.0, 0)


def test_a_retry_after_beyond_max_retry_after_or_max_outage_is_final_in_an_outage_too():
    patient = {"max_outage": 1_000.0, "max_retry_after": 30.0}
    assert attempts(**patient).fault(status(503, 30.0), NOW, outage=True)
    assert not attempts(**patient).fault(status(503, 30.1), NOW, outage=True)
    assert not attempts(max_outage=20.0).fault(status(503, 30.0), NOW, outage=True)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"attempts": 0}, ValueError), ({"attempts": -1}, ValueError),
        ({"attempts": 1.5}, TypeError),
        ({"attempts": True}, TypeError), ({"attempts": "3"}, TypeError),
        ({"attempts": None}, TypeError),
        ({"base": -0.1}, ValueError), ({"base": "1"}, TypeError), ({"base": None}, TypeError),
        ({"cap": float("nan")}, ValueError), ({"cap": True}, TypeError),
        ({"max_retry_after": -1}, ValueError), ({"max_throttled": "x"}, TypeError),
        ({"max_outage": -1}, ValueError), ({"max_outage": "x"}, TypeError),
    ],
)  # fmt: skip
def test_a_bad_option_is_an_error_at_once(options, error):
    with pytest.raises(error, match=next(iter(options))) as caught:
        Retry(**options)
    assert len(str(caught.value).splitlines()) == 1


def test_a_retry_is_a_value():
    assert Retry() == Retry(4, base=0.5, cap=20.0, max_retry_after=120.0, max_throttled=900.0)
    assert hash(Retry(2)) == hash(Retry(2))
    with pytest.raises(AttributeError):
        Retry().attempts = 5
    with pytest.raises(TypeError):
        Retry(4, 0.5)


@pytest.mark.parametrize("seconds", [0, 0.0, math.inf])
def test_bounds_may_be_nothing_or_infinite(seconds):
    retry = Retry(
        base=seconds,
        cap=seconds,
        max_retry_after=seconds,
        max_throttled=seconds,
        max_outage=seconds,
    )
    assert retry.max_outage == seconds
