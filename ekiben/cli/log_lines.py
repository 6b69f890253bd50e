"""What long-running commands log, for people or for programs, on standard output."""

from __future__ import annotations

import logging
from collections.abc import Iterable


def print_log(names: Iterable[str], *, as_json: bool) -> None:
    """Prints what some loggers say, and nothing twice.

    Args:
        names: The loggers.
        as_json: An object a line instead of text.
    """
    import sys  # noqa: PLC0415  commands import what they need when they run

    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonLines() if as_json else logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    for name in names:
        logger = logging.getLogger(name)
        logger.setLevel(logging.INFO)
        logger.handlers = [handler]
        logger.propagate = False


class JsonLines(logging.Formatter):
    """A record as an object in one line: ``time``, ``level``, ``logger``, ``message``, and the event or check where it tells of one."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        import msgspec  # noqa: PLC0415

        line = {"time": record.created, "level": record.levelname.lower(), "logger": record.name, "message": record.getMessage()}
        for name in ("event", "check"):
            told = getattr(record, name, None)
            if told is not None:
                line[name] = msgspec.to_builtins(told)
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode()
