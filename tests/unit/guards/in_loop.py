"""Tests that are coroutines."""

import asyncio
import functools


def in_loop(test):
    """Runs a test in an event loop of its own, for ten seconds at most."""

    @functools.wraps(test)
    def run(*args, **kw):
        asyncio.run(asyncio.wait_for(test(*args, **kw), 10))

    return run
