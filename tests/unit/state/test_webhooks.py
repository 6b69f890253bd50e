import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from ekiben.state.events import Event
from ekiben.state.webhooks import body_of, headers_of, message_id, post, secret_of, shown, try_post

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


def test_what_is_shown_of_a_url_holds_no_secret():
    assert shown("https://user:word@hooks.example:8443/T0/xyz?token=1") == "https://hooks.example:8443/…"
    assert shown("http://hooks.example/T0") == "http://hooks.example/…"


def test_post_over_http_follows_no_redirect():
    got = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            got.append((self.path, self.rfile.read(int(self.headers["content-length"])), self.headers["webhook-id"]))
            self.send_response(302)
            self.send_header("location", "/elsewhere")
            self.end_headers()

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/hook"
        assert post(url, b"{}", {"webhook-id": "msg_1"}) == 302
        server.shutdown()
    assert got == [("/hook", b"{}", "msg_1")]
    for unanswered in (url, "http://[broken"):
        with pytest.raises(OSError, match=r"Error|Invalid"):
            post(unanswered, b"{}", {})


def test_the_types_of_messages_are_the_rollouts_or_given():
    assert json.loads(body_of(EVENT))["type"] == "rollout.promoted"
    assert json.loads(body_of(EVENT, "alert.firing"))["type"] == "alert.firing"


@pytest.mark.parametrize(
    ("status", "problem", "is_final"), [(204, "", False), (500, "it answered 500", False), (410, "it answered 410", True)]
)
def test_a_try_says_how_it_went(status, problem, is_final):
    tried = try_post(lambda *_: status, "http://a", b"{}", identifier="msg_1", secret_file="", now=1.0)
    assert (tried.problem, tried.is_final) == (problem, is_final)


def test_nothing_is_sent_unsigned_that_is_to_be_signed(tmp_path):
    def never(*_):
        raise AssertionError

    tried = try_post(never, "http://a", b"{}", identifier="msg_1", secret_file=str(tmp_path / "none"), now=1.0)
    assert tried.problem.startswith("the secret that signs it cannot be read")
    assert not tried.is_final


def test_a_try_that_nobody_answers_can_be_repeated():
    def refused(*_):
        raise ConnectionRefusedError("refused")

    assert try_post(refused, "http://a", b"{}", identifier="msg_1", secret_file="", now=1.0).problem == "nothing answers: refused"


def test_a_url_that_is_none_is_not_quoted():
    with pytest.raises(OSError, match="its address is no URL") as failure:
        post("http://host:hush/path", b"{}", {})
    assert "hush" not in str(failure.value)
