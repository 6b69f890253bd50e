import pytest

from ekiben.errors import SettingError
from ekiben.guards.client_address import UNKNOWN, ClientAddress, TrustedProxies, believe_no_peer

PEER = ("10.0.0.9", 4711)


def address(trusted, forwarded, peer=PEER):
    headers = {b"x-forwarded-for": forwarded.encode()} if forwarded is not None else {}
    return ClientAddress(TrustedProxies.parse(trusted)).of(peer, headers)


def test_without_trusted_proxies_it_is_the_peers_whatever_it_says():
    assert ClientAddress().of(PEER, {b"x-forwarded-for": b"1.1.1.1"}) == "10.0.0.9"
    assert address("", "1.1.1.1") == "10.0.0.9"
    assert address("", None, peer=None) == UNKNOWN


@pytest.mark.parametrize(
    ("trusted", "forwarded", "expected"),
    [
        ("10.0.0.0/8", None, "10.0.0.9"),
        ("10.0.0.0/8", "", "10.0.0.9"),
        ("10.0.0.0/8", "203.0.113.7", "203.0.113.7"),
        ("10.0.0.0/8", "8.8.8.8, 203.0.113.7", "203.0.113.7"),  # the first is what the client wrote itself
        ("10.0.0.0/8", "8.8.8.8, 203.0.113.7, 10.1.1.1", "203.0.113.7"),
        ("10.0.0.0/8", "10.2.2.2, 10.1.1.1", "10.2.2.2"),  # somebody inside
        ("10.0.0.0/8", "203.0.113.7, nonsense", "10.0.0.9"),
        ("10.0.0.0/8", "nonsense, 10.1.1.1", "10.1.1.1"),
        ("10.0.0.0/8", "203.0.113.7:5555", "203.0.113.7"),
        ("10.0.0.9", "[2001:db8::1]:443", "2001:db8::1"),
        ("10.0.0.9", "2001:DB8:0::1", "2001:db8::1"),
        ("10.0.0.9", "::ffff:203.0.113.7", "203.0.113.7"),
        ("192.168.0.0/16, fd00::/8", "203.0.113.7", "10.0.0.9"),  # the peer is none of ours
        ("1", "8.8.8.8, 203.0.113.7", "203.0.113.7"),
        ("2", "8.8.8.8, 203.0.113.7, 10.1.1.1", "203.0.113.7"),
        ("2", "203.0.113.7", "10.0.0.9"),  # it came past them
        ("1", "nonsense", "10.0.0.9"),
        ("1", None, "10.0.0.9"),
    ],
)
def test_what_proxies_say_counts_as_far_as_they_are_trusted(trusted, forwarded, expected):
    assert address(trusted, forwarded) == expected


def test_a_peer_as_an_address_of_both_kinds_is_found_in_a_network():
    assert address("10.0.0.0/8", "203.0.113.7", peer=("::ffff:10.0.0.9", 1)) == "203.0.113.7"
    assert address("10.0.0.0/8", "203.0.113.7", peer=None) == UNKNOWN


@pytest.mark.parametrize(("text", "right"), [("0", "1 to 16"), ("17", "1 to 16"), ("10.0.0.1/8", "10.0.0.0/8"), ("proxy", "10.0.0.0/8")])
def test_a_setting_that_cannot_be_used_says_so(text, right):
    with pytest.raises(SettingError, match=right):
        TrustedProxies.parse(text)


@pytest.mark.parametrize(
    ("trusted", "before", "after"), [("", None, ""), ("", "10.0.0.1", "10.0.0.1"), ("1", "10.0.0.1", ""), ("10.0.0.0/8", "*", "")]
)
def test_uvicorn_is_told_to_believe_nobody(trusted, before, after):
    environ = {} if before is None else {"FORWARDED_ALLOW_IPS": before}
    believe_no_peer(environ, trusted=TrustedProxies.parse(trusted))
    assert environ == {"FORWARDED_ALLOW_IPS": after}
