import asyncio

from ekiben.serving.rest.pages import HEADERS, secured


def sent(*messages):
    found = []

    async def send(message):
        found.append(message)

    async def run():
        for message in messages:
            await secured(send)(message)

    asyncio.run(run())
    return found


def test_the_head_of_an_answer_gets_them_all():
    start = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/html")]}
    body = {"type": "http.response.body", "body": b"<html>"}

    head, rest = sent(start, body)

    assert head["headers"] == [(b"content-type", b"text/html"), *HEADERS]
    assert rest == body


def test_what_the_page_says_itself_stays():
    own = [(b"X-Frame-Options", b"SAMEORIGIN"), (b"content-security-policy", b"default-src 'self'")]

    (head,) = sent({"type": "http.response.start", "status": 200, "headers": own})

    assert head["headers"][:2] == own
    assert [name for name, _ in head["headers"][2:]] == [b"x-content-type-options", b"referrer-policy"]


def test_an_answer_without_headers_gets_them_too():
    (head,) = sent({"type": "http.response.start", "status": 204})

    assert head["headers"] == list(HEADERS)


def test_no_script_from_elsewhere_and_none_inline():
    policy = dict(HEADERS)[b"content-security-policy"].decode()
    rules = dict(part.strip().split(" ", 1) for part in policy.split(";"))

    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == "'self'"
    assert rules["frame-ancestors"] == "'none'"
