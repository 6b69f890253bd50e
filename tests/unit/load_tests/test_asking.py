import http.server
import threading

import pytest

from load_tests.bench.asking import NoGoodAnswer, get, post
from load_tests.bench.servers import free_port


@pytest.fixture
def url():
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(int(self.path[1:]))
            self.send_header("X-Kind", self.headers["Content-Type"])
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self):
            self.send_response(int(self.path[1:]))
            self.end_headers()
            self.wfile.write(b"page")

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_a_good_answer_has_its_body_and_headers(url):
    reply = post(f"{url}/200", b"body", {"Content-Type": "text/x"})

    assert reply.body == b"body"
    assert reply.headers["X-Kind"] == "text/x"
    assert get(f"{url}/200").body == b"page"


def test_any_other_says_its_status_and_what_it_said(url):
    with pytest.raises(NoGoodAnswer, match="503: why"):
        post(f"{url}/503", b"why", {})
    with pytest.raises(NoGoodAnswer, match="404: page"):
        get(f"{url}/404")


def test_a_port_where_nothing_listens_gives_no_answer():
    with pytest.raises(NoGoodAnswer, match="refused"):
        post(f"http://127.0.0.1:{free_port()}/", b"", {})
