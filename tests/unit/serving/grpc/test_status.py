from urllib.parse import unquote

import grpc
import pytest

from ekiben import errors
from ekiben.errors import RequestError, RowError
from ekiben.serving.grpc.status import CODES, Code, code_of, trailers_of

EXPECTED = {
    errors.InvalidRequest: "INVALID_ARGUMENT",
    errors.InvalidRows: "INVALID_ARGUMENT",
    errors.UnknownModel: "NOT_FOUND",
    errors.Unauthenticated: "UNAUTHENTICATED",
    errors.Forbidden: "PERMISSION_DENIED",
    errors.TooManyRequests: "RESOURCE_EXHAUSTED",
    errors.LoadFailed: "FAILED_PRECONDITION",
    errors.MethodNotAllowed: "UNIMPLEMENTED",
    errors.PayloadTooLarge: "RESOURCE_EXHAUSTED",
    errors.ReadTimeout: "DEADLINE_EXCEEDED",
    errors.UnsupportedMediaType: "UNIMPLEMENTED",
    errors.NotAcceptable: "INTERNAL",
    errors.NotReady: "UNAVAILABLE",
    errors.QueueFull: "UNAVAILABLE",
    errors.CircuitOpen: "UNAVAILABLE",
    errors.DeadlineExceeded: "DEADLINE_EXCEEDED",
    errors.PredictionFailed: "INTERNAL",
    errors.RequestError: "INTERNAL",
}


def made(kind):
    if kind is errors.InvalidRows:
        return kind([RowError(0, "a", 1, "must be 2")])
    if kind is errors.TooManyRequests:
        return kind("no", retry_after_s=1.5, limit=10, window_s=60)
    return kind("no", "GET") if kind is errors.MethodNotAllowed else kind("no")


def all_kinds(kind):
    return {kind}.union(*(all_kinds(k) for k in kind.__subclasses__()))


def test_every_request_error_is_listed_here():
    assert {k for k in all_kinds(RequestError) if k.__module__ == "ekiben.errors"} == set(EXPECTED)


@pytest.mark.parametrize("kind", EXPECTED)
def test_each_error_has_its_code(kind):
    assert code_of(made(kind)).name == EXPECTED[kind]
    assert dict(trailers_of(made(kind)))[b"grpc-status"] == b"%d" % code_of(made(kind))


def test_the_numbers_are_grpcs():
    assert {c.name: c.value for c in Code} == {c.name: c.value[0] for c in grpc.StatusCode if c.name in Code.__members__}
    assert {code for _, code in CODES} <= set(Code)


@pytest.mark.parametrize(
    ("text", "encoded"),
    [
        ("plain ASCII, with ~!@#$^&*()[]{}\\|;:'\"<>?/", b"plain ASCII, with ~!@#$^&*()[]{}\\|;:'\"<>?/"),
        ("100 %", b"100 %25"),
        ("%41", b"%2541"),
        ("a\nb\r\tc\0", b"a%0Ab%0D%09c%00"),
        ("é 駅弁 🍱", b"%C3%A9 %E9%A7%85%E5%BC%81 %F0%9F%8D%B1"),
        ("\x7f", b"%7F"),
        ("\udcff", b"?"),
        ("", b""),
    ],
)
def test_a_message_is_percent_encoded(text, encoded):
    assert dict(trailers_of(RequestError(text)))[b"grpc-message"] == encoded


@pytest.mark.parametrize("text", ["x" * 100_000, "é" * 100_000, "駅" * 100_000, "🍱" * 100_000, "%" * 100_000, "a" + "🍱" * 9999])
def test_a_long_message_is_cut_to_what_clients_take(text):
    message = dict(trailers_of(RequestError(text)))[b"grpc-message"]
    assert 1900 <= len(message) < 7000  # clients take 8 KiB of trailers in all
    found = unquote(message.decode(), errors="strict")
    assert found.endswith("…")
    assert text.startswith(found[:-1])


def test_2000_bytes_are_not_cut():
    assert dict(trailers_of(RequestError("x" * 2000)))[b"grpc-message"] == b"x" * 2000


def test_when_to_come_again():
    assert dict(trailers_of(errors.QueueFull("full", retry_after_s=0.25)))[b"grpc-retry-pushback-ms"] == b"250"
    assert dict(trailers_of(errors.NotReady("no", retry_after_s=2)))[b"grpc-retry-pushback-ms"] == b"2000"
    assert b"grpc-retry-pushback-ms" not in dict(trailers_of(errors.DeadlineExceeded("late")))
