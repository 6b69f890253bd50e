import asyncio
import json
import logging
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from unit.guards.issuer import ISSUER, Issuer, odd_keys, part

from ekiben.errors import NotReady
from ekiben.guards import jwks as module
from ekiben.guards.jwks import FRESH_S, GOOD_S, RETRY_S, Jwks, fetch_over_http, is_safe


class Clock:
    def __init__(self):
        self.now = 50.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def issuer():
    return Issuer()


@pytest.fixture
def jwks(issuer, clock):
    return Jwks(issuer.fetch, issuer=ISSUER, url="", clock=clock)


async def settled():
    for _ in range(20):
        await asyncio.sleep(0)


def test_the_issuer_says_where_its_keys_are(jwks, issuer):
    issuer.discovery["jwks_uri"] = "https://keys.test/set"
    assert asyncio.run(jwks.key("one", "RS256")).kid == "one"
    assert issuer.asked == [f"{ISSUER}/.well-known/openid-configuration", "https://keys.test/set"]


def test_a_url_of_the_settings_is_asked_alone(issuer, clock):
    jwks = Jwks(issuer.fetch, issuer=ISSUER, url="https://keys.test/set", clock=clock)
    assert asyncio.run(jwks.key("one", "RS256"))
    assert issuer.asked == ["https://keys.test/set"]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"issuer": "https://other.test"}, "is of the issuer 'https://other.test'"),
        ({"issuer": ISSUER + "/"}, "is of the issuer"),
        ({"jwks_uri": "http://keys.test/set"}, "names no jwks_uri that begins with https://"),
        ({"jwks_uri": 7}, "names no jwks_uri"),
    ],
)
def test_a_document_that_is_another_issuers_or_unsafe_is_not_believed(jwks, issuer, caplog, changed, said):
    issuer.discovery |= changed
    with pytest.raises(NotReady, match="cannot be fetched"):
        asyncio.run(jwks.key("one", "RS256"))
    assert said in caplog.text


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff", b"{}", b'{"keys": 3}', b"[" * 100_000])
def test_a_set_that_is_none_is_not_believed(clock, content, caplog):
    async def fetch(url):
        return content

    jwks = Jwks(fetch, issuer=ISSUER, url="https://keys.test/set", clock=clock)
    with pytest.raises(NotReady):
        asyncio.run(jwks.key("one", "RS256"))
    assert "cannot be fetched" in caplog.text


@pytest.mark.filterwarnings("ignore::joserfc.errors.SecurityWarning")
def test_keys_that_cannot_verify_are_left_out(jwks, issuer, caplog):
    rsa = issuer.rsa("two").as_dict(private=False)
    weak = {"kty": "RSA", "n": part((1 << 1023 | 1).to_bytes(128, "big")).decode(), "e": "AQAB"}
    issuer.more = [
        {**rsa, "kid": "enc", "use": "enc"}, {**rsa, "kid": "hs", "kty": "oct", "k": "c2VjcmV0"}, {"kty": "RSA", "kid": "broken"}, "text",
        {"kid": "kindless"}, {**rsa, "kid": "typed", "alg": "RS512"}, {**weak, "kid": "weak"}, {**rsa, "kid": 7},
    ]  # fmt: skip

    async def found(*asked):
        return [await jwks.key(*one) is not None for one in asked]

    for kid in ("enc", "hs", "broken", "kindless", "weak"):
        assert asyncio.run(found((kid, "RS256"), (kid, "HS256"))) == [False, False]
    assert asyncio.run(found(("one", "RS256"), ("typed", "RS256"), ("typed", "RS512"))) == [True, False, True]
    assert "a key of the issuer cannot be used" in caplog.text


def test_a_key_of_another_kind_than_the_algorithms_is_not_found(jwks, issuer):
    kinds = odd_keys()
    issuer.keys = [*kinds.values()]

    async def found(algorithm):
        return {kid for kid in ("ec", "ec3", "okp", "ps") if await jwks.key(kid, algorithm) is not None}

    expected = {"RS256": {"ps"}, "PS256": {"ps"}, "ES256": {"ec"}, "ES384": {"ec3"}, "ES512": set(), "Ed25519": {"okp"}, "HS256": set()}
    assert {algorithm: asyncio.run(found(algorithm)) for algorithm in expected} == expected


def test_an_unknown_kid_asks_again_once_in_a_while_however_many_ask(jwks, issuer, clock):
    async def run():
        assert await jwks.key("one", "RS256")
        assert issuer.asked == issuer.asked[:2]
        for n in range(20):
            assert await jwks.key(f"random-{n}", "RS256") is None
        assert len(issuer.asked) == 2
        clock.now += RETRY_S
        issuer.keys.append(issuer.rsa("two"))
        found = await asyncio.gather(*(jwks.key(kid, "RS256") for kid in ["two"] * 10 + [f"random-{n}" for n in range(10)]))
        assert [key is not None for key in found] == [True] * 10 + [False] * 10
        assert len(issuer.asked) == 4

    asyncio.run(run())


def test_who_goes_away_takes_nobody_elses_fetch_along(issuer, clock):
    gate = None

    async def slow(url):
        await gate.wait()
        return issuer.document(url)

    async def run():
        nonlocal gate
        gate = asyncio.Event()
        jwks = Jwks(slow, issuer=ISSUER, url="https://keys.test/set", clock=clock)
        one, other = (asyncio.create_task(jwks.key("one", "RS256")) for _ in range(2))
        await settled()
        one.cancel()
        await settled()
        gate.set()
        assert (await other).kid == "one"
        assert one.cancelled()

    asyncio.run(run())


def test_old_keys_are_fetched_again_beside_the_request(jwks, issuer, clock, caplog):
    changes = []
    jwks.on_change = lambda: changes.append(clock.now)

    async def run():
        await jwks.key("one", "RS256")
        clock.now += FRESH_S + 1
        assert await jwks.key("one", "RS256")
        await settled()
        assert (len(issuer.asked), changes) == (4, [50.0])  # the same as before is no change
        clock.now += FRESH_S + 1
        issuer.keys = [issuer.rsa("two")]
        assert await jwks.key("one", "RS256")
        await settled()
        assert await jwks.key("one", "RS256") is None
        assert changes == [50.0, clock.now]

    asyncio.run(run())


def test_the_last_known_keys_are_good_for_a_day(jwks, issuer, clock, caplog):
    async def run():
        await jwks.key("one", "RS256")
        issuer.away()
        clock.now += GOOD_S - 1
        for _ in range(3):
            assert await jwks.key("one", "RS256")
            await settled()
        clock.now += 1
        with pytest.raises(NotReady) as caught:
            await jwks.key("one", "RS256")
        assert caught.value.retry_after_s == RETRY_S
        clock.now += RETRY_S
        issuer.problem = None
        assert await jwks.key("one", "RS256")

    with caplog.at_level(logging.INFO, "ekiben.auth"):
        asyncio.run(run())
    assert caplog.text.count("cannot be fetched: the issuer does not answer") == 1
    assert caplog.text.count("are there again") == 1


def test_it_stops_in_the_middle(clock):
    async def never(url):
        await asyncio.Event().wait()

    async def run():
        jwks = Jwks(never, issuer=ISSUER, url="https://keys.test/set", clock=clock)
        await jwks.stop()
        task = jwks.begin()
        await jwks.stop()
        assert task.cancelled()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("url", "safe"),
    [
        ("https://keys.test/set", True),
        ("http://localhost:8080/set", True),
        ("http://127.0.0.1/set", True),
        ("http://[::1]:1/set", True),
        ("http://keys.test/set", False),
        ("http://localhost.keys.test/", False),
        ("http://127.0.0.1@keys.test/", False),
        ("ftp://localhost/", False),
        ("https://", False),
        ("https://[", False),
        ("", False),
    ],
)
def test_what_cannot_be_forged_on_its_way(url, safe):
    assert is_safe(url) is safe


class Answers(BaseHTTPRequestHandler):
    def do_GET(self):
        match self.path:
            case "/small":
                status, body = 200, b"{}"
            case "/large":
                status, body = 200, b" " * (module.LARGEST_BYTES + 1)
            case "/moved":
                status, body = 302, b""
            case "/slow":
                self.server.gate.wait(5)
                status, body = 200, b"{}"
            case _:
                status, body = 404, b""
        self.send_response(status)
        self.send_header("location", "/small")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        with suppress(OSError):
            self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def site():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    server.daemon_threads = True
    server.gate = threading.Event()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.gate.set()
    server.shutdown()
    server.server_close()


def test_documents_come_over_http_small_soon_and_from_where_they_were_asked(site, monkeypatch):
    assert json.loads(asyncio.run(fetch_over_http(f"{site}/small"))) == {}
    for path, said in (("/large", "more than"), ("/moved", "answered 302"), ("/none", "answered 404")):
        with pytest.raises(NotReady, match=said):
            asyncio.run(fetch_over_http(site + path))
    monkeypatch.setattr(module, "TIMEOUT_S", 0.2)
    with pytest.raises(NotReady, match=r"within 0\.2 s|does not answer"):
        asyncio.run(fetch_over_http(f"{site}/slow"))
    for nowhere in ("http://127.0.0.1:9/", "http://[", "https://" + "a" * 70 + ".test"):
        with pytest.raises(NotReady, match="answer"):
            asyncio.run(fetch_over_http(nowhere))
