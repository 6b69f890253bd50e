"""The header fields that tell a client how much is left: RateLimit-Limit, -Remaining and -Reset.

They are those of the Internet-Draft *RateLimit header fields for HTTP* (draft-ietf-httpapi-ratelimit-headers) as its version 03 has
them, which clients know; later versions put all into one structured field.
"""

from __future__ import annotations

import math
from functools import lru_cache


def rate_limit_headers(limit: float, window_s: float, capacity: float, left: float, reset_s: float) -> list[tuple[bytes, bytes]]:
    """The fields.

    Args:
        limit: Units that may come in each window.
        window_s: Its seconds; the policy is told where they are whole, as the draft wants them.
        capacity: Units that may come at once, the most that can be left.
        left: Units that would fit now, told rounded down.
        reset_s: Seconds until all would fit again, told rounded up.

    Returns:
        Nothing where `window_s` is 0: what is under way at once has no window.
    """
    if not window_s:
        return []
    return [
        (b"ratelimit-limit", _policy(limit, window_s, capacity)),
        # A bucket that refills to a whole number is just below it by rounding.
        (b"ratelimit-remaining", b"%d" % (left + 1e-6)),
        (b"ratelimit-reset", b"%d" % math.ceil(reset_s)),
    ]


@lru_cache(1024)
def _policy(limit: float, window_s: float, capacity: float) -> bytes:
    most = b"%d" % capacity
    if window_s == int(window_s):
        most += b", %d;w=%d" % (limit, window_s)
        if capacity != limit:
            most += b";burst=%d" % capacity
    return most
