import base64
import json

import pytest

from ekiben.rollout.signing import body_of, headers_of, message_id, secret_of
from ekiben.state.events import Event

EVENT = Event(time=1_700_000_000.25, who="ann", model="tiny", rollout="tiny-1", kind="promoted", message="done", details={"a": 1}, id=7)


def test_a_signature_is_that_of_the_specifications_example():
    # From the specification's reference libraries: the secret, message and signature that all of them are tested with.
    secret = secret_of(b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n")
    headers = headers_of("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}', secret)
    assert headers["webhook-id"] == "msg_p5jXN8AQM9LWM0D4loKWxJek"
    assert headers["webhook-timestamp"] == "1614265330"
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_without_a_secret_nothing_is_signed():
    assert "webhook-signature" not in headers_of("msg_1", 1, b"{}", None)


def test_secrets():
    assert secret_of(b" any text \n") == b"any text"
    assert secret_of(b"whsec_" + base64.b64encode(b"key")) == b"key"
    for wrong, said in ((b" \n", "is empty"), (b"whsec_not base64 at all", "no base64")):
        with pytest.raises(ValueError, match=said) as e:
            secret_of(wrong)
        assert "not base64 at all" not in str(e.value)


def test_the_message_says_what_when_and_about_which():
    body = json.loads(body_of(EVENT))
    assert body["type"] == "rollout.promoted"
    assert body["timestamp"] == "2023-11-14T22:13:20.250+00:00"
    assert (body["data"]["id"], body["data"]["rollout"], body["data"]["details"]) == (7, "tiny-1", {"a": 1})


def test_an_id_is_that_of_the_event_and_the_webhook():
    assert message_id(EVENT, "http://a") == message_id(EVENT, "http://a")
    assert message_id(EVENT, "http://a") != message_id(EVENT, "http://b")
    assert len(message_id(EVENT, "http://a")) == 36
