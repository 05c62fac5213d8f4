"""The signature of a delivery is checked before anything in it is looked at."""

import json
import traceback

import pytest
from deliveries import SECRET, delivery, sign
from hypothesis import given
from hypothesis import strategies as st
from secrecy import frames, shown

from itwin_async.webhooks import ChangesReady, verify

BODY, SIGNATURE = delivery()


def test_a_signed_delivery_is_its_event():
    event = verify(BODY, SIGNATURE, SECRET)
    assert type(event) is ChangesReady
    assert event.changeset_index == 1


@pytest.mark.parametrize(
    "signature",
    [SIGNATURE.upper(), SIGNATURE.replace("sha256", "SHA256"), f" {SIGNATURE} "],
    ids=["upper case", "algorithm", "spaces"],
)
def test_the_case_of_a_signature_does_not_matter(signature):
    assert verify(BODY, signature, SECRET).message_id == verify(BODY, SIGNATURE, SECRET).message_id


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_a_body_may_be_any_bytes(kind):
    assert verify(kind(BODY), SIGNATURE, SECRET) == verify(BODY, SIGNATURE, SECRET)


def test_a_secret_is_its_utf_8_text():
    secret = "sécrèt of the webhook, in 32 letters"
    assert verify(BODY, sign(BODY, secret), secret).webhook_id


DIGEST = SIGNATURE.partition("=")[2]
WRONG = {
    "empty": "",
    "bare digest": DIGEST,
    "no digest": "sha256=",
    "algorithm alone": "sha256",
    "another algorithm": f"sha1={DIGEST}",
    "no algorithm": f"={DIGEST}",
    "short": SIGNATURE[:-1],
    "long": f"{SIGNATURE}0",
    "one digit": SIGNATURE[:-1] + ("0" if SIGNATURE[-1] != "0" else "1"),
    "another secret": sign(BODY, SECRET + "0"),
    "another body": sign(BODY + b" "),
    "twice": f"sha256={SIGNATURE}",
    "no ASCII": f"sha256={DIGEST[:-1]}\u212a",
    "surrogate": "sha256=\ud800",
    "nul": f"{SIGNATURE}\0",
}


@pytest.mark.parametrize("signature", WRONG.values(), ids=WRONG)
def test_a_wrong_signature_is_refused(signature):
    with pytest.raises(ValueError, match=r"^the signature is wrong: ") as caught:
        verify(BODY, signature, SECRET)
    assert len(str(caught.value).splitlines()) == 1


def test_a_missing_signature_is_refused():
    with pytest.raises(ValueError, match="no signature: its header Signature is missing"):
        verify(BODY, None, SECRET)


@given(st.integers(0, len(BODY) - 1), st.integers(1, 255))
def test_a_body_with_another_byte_is_refused(at, change):
    changed = bytearray(BODY)
    changed[at] ^= change
    with pytest.raises(ValueError, match="the signature is wrong"):
        verify(bytes(changed), SIGNATURE, SECRET)


@given(st.binary())
def test_what_is_not_signed_is_never_decoded(body):
    with pytest.raises(ValueError, match="the signature is wrong"):
        verify(body, SIGNATURE, SECRET)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((BODY.decode(), SIGNATURE, SECRET), TypeError),
        ((None, SIGNATURE, SECRET), TypeError),
        ((BODY, SIGNATURE.encode(), SECRET), TypeError),
        ((BODY, SIGNATURE, None), TypeError),
        ((BODY, SIGNATURE, SECRET.encode()), TypeError),
        ((BODY, sign(BODY, ""), ""), ValueError),
    ],
    ids=["text", "no body", "bytes", "no secret", "secret of bytes", "empty secret"],
)
def test_arguments_that_cannot_be_are_refused(arguments, error):
    with pytest.raises(error) as caught:
        verify(*arguments)
    assert len(str(caught.value).splitlines()) == 1


NO_EVENTS = [b"", b"{", b"[]", b"null", b"\xff", b'"a"', b"[" * 5_000, b'{"eventType": 1}', b"{}"]


@pytest.mark.parametrize("body", NO_EVENTS, ids=range(len(NO_EVENTS)))
def test_a_signed_body_that_is_no_event_is_refused(body):
    with pytest.raises(ValueError, match=r"^the delivery is signed, and its body is no event: "):
        verify(body, sign(body), SECRET)


@pytest.mark.parametrize("name", ["eventType", "messageId"])
def test_an_event_needs_its_type_and_its_message(name):
    fields = json.loads(BODY)
    del fields[name]
    body = json.dumps(fields).encode()
    with pytest.raises(ValueError, match=f"missing required field `{name}`"):
        verify(body, sign(body), SECRET)


@pytest.mark.parametrize("body", [BODY, b"{"], ids=["event", "no event"])
@pytest.mark.parametrize("signature", [None, "sha256=0", 5, SIGNATURE, sign(b"{")])
def test_no_error_shows_the_secret_or_the_signature(body, signature):
    try:
        verify(body, signature, SECRET)
    except (TypeError, ValueError) as error:
        report = shown(error) + frames(error)
        ours = [frame for frame in traceback.extract_tb(error.__traceback__) if "webhooks/del" in
                frame.filename]  # fmt: skip
        assert ours
        assert SECRET not in report
        assert DIGEST not in report
        assert sign(b"{").partition("=")[2] not in report
    else:
        assert (body, signature) == (BODY, SIGNATURE)
