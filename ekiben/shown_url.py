"""URLs as people may see them, in messages, logs and events."""

from __future__ import annotations

import re
from typing import Final

_USER: Final = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*://)[^/?#]*@")


def shown_url(url: str) -> str:
    """A URL without user, password, query and fragment, any of which may be or hold a secret; ``…`` stands in their places.

    What stands before the last ``@`` of the address goes, also where the password has characters that a URL may not have there.
    """
    head, mark, _ = url.partition("?") if "?" in url else url.partition("#")
    return _USER.sub(r"\1…@", head) + (f"{mark}…" if mark else "")
