"""Where a request comes from: the peer's address, or what proxies that are trusted say of it."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, MutableMapping, Sequence
from functools import lru_cache
from typing import Final

import msgspec

from ekiben.errors import SettingError

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address

UNKNOWN: Final = "local"
"""Who comes through a socket that has no addresses."""

_MOST_HOPS: Final = 16


class TrustedProxies(msgspec.Struct, frozen=True):
    """Whose X-Forwarded-For is believed.

    Attributes:
        hops: So many proxies stand before this server, whatever their addresses; 0 where it is told by addresses.
        networks: Addresses of proxies.
    """

    hops: int = 0
    networks: tuple[_Network, ...] = ()

    @classmethod
    def parse(cls, text: str) -> TrustedProxies:
        """Reads ``EKIBEN_TRUSTED_PROXIES``: a number of hops, or addresses and networks with commas between them.

        Raises:
            SettingError: It is neither.
        """
        parts = [part.strip() for part in text.split(",") if part.strip()]
        if len(parts) == 1 and parts[0].isdecimal():
            if not 1 <= int(parts[0]) <= _MOST_HOPS:
                raise SettingError(f"EKIBEN_TRUSTED_PROXIES is {text!r}; a number of proxies must be from 1 to {_MOST_HOPS}")
            return cls(hops=int(parts[0]))
        networks = []
        for part in parts:
            try:
                networks.append(ipaddress.ip_network(part))
            except ValueError as e:
                right = "it must be a number of proxies, or addresses and networks like 10.0.0.0/8 with commas between them"
                raise SettingError(f"EKIBEN_TRUSTED_PROXIES has {part!r} ({e}); {right}") from None
        return cls(networks=tuple(networks))


class ClientAddress:
    """Finds the address of who asks.

    Without trusted proxies it is the peer's, and what a request says of it counts for nothing. X-Forwarded-For is read from the
    right, where the nearest proxy wrote: what a client writes itself stands further left than anything that is believed.

    Args:
        trusted: Whose word is believed.
    """

    def __init__(self, trusted: TrustedProxies | None = None) -> None:
        self._trusted = trusted or TrustedProxies()
        self._is_off = not self._trusted.hops and not self._trusted.networks
        self._is_proxy = lru_cache(4096)(self._stands_in_networks)

    def of(self, peer: Sequence[object] | None, headers: Mapping[bytes, bytes]) -> str:
        """The address.

        Args:
            peer: ``client`` of the ASGI scope: the host and port of the connection; None for a socket without.
            headers: The request's. NOTE: a mapping has the last of several X-Forwarded-For, which is the nearest proxy's.
        """
        host = str(peer[0]) if peer else UNKNOWN
        if self._is_off:
            return host
        forwarded = headers.get(b"x-forwarded-for")
        if not forwarded:
            return host
        if self._trusted.hops:
            return self._by_hops(host, forwarded)
        return self._by_networks(host, forwarded)

    def _by_hops(self, host: str, forwarded: bytes) -> str:
        """What the outermost of our proxies saw. Fewer entries are of a request that came past them."""
        entries = forwarded.rsplit(b",", self._trusted.hops)[-self._trusted.hops :]
        if len(entries) < self._trusted.hops:
            return host
        address = _address_of(entries[0])
        return str(address) if address is not None else host

    def _by_networks(self, host: str, forwarded: bytes) -> str:
        """The first from the right that is no proxy; an entry that is no address ends the way."""
        found = host
        for entry in reversed(forwarded.split(b",")):
            if not self._is_proxy(found):
                return found
            address = _address_of(entry)
            if address is None:
                return found
            found = str(address)
        return found

    def _stands_in_networks(self, text: str) -> bool:
        address = _address_of(text.encode())
        return address is not None and any(address in network for network in self._trusted.networks)


def believe_no_peer(environ: MutableMapping[str, str], *, trusted: TrustedProxies) -> None:
    """Has uvicorn leave the peer's address as it is, so that both ports find the client's by the same rule.

    By itself uvicorn believes X-Forwarded-For of whoever connects from this machine, or of ``FORWARDED_ALLOW_IPS``, and writes it
    over the peer's address before any application sees that. Where proxies are trusted here, it is told to believe nobody; else
    only where nothing else was asked of it.

    Args:
        environ: The variables that uvicorn will read, before its configuration is made.
        trusted: Whose word is believed here.
    """
    if trusted.hops or trusted.networks:
        environ["FORWARDED_ALLOW_IPS"] = ""
    else:
        environ.setdefault("FORWARDED_ALLOW_IPS", "")


def _address_of(entry: bytes) -> _Address | None:
    """An entry of X-Forwarded-For: an address, perhaps with a port, of IPv6 perhaps in brackets."""
    text = entry.decode("latin-1").strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
