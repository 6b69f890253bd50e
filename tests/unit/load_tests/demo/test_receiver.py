import asyncio
import json

import aiohttp

from load_tests.demo.receiver import Receiver


async def told(*messages):
    async with Receiver() as receiver, aiohttp.ClientSession() as session:
        for identifier, kind, number in messages:
            body = json.dumps({"type": kind, "data": {"kind": kind, "id": number}})
            async with session.post(receiver.url, data=body, headers={"webhook-id": identifier}) as answer:
                assert answer.status == 200
        return receiver, await receiver.lacks({1, 2}, 0.05)


def test_a_message_that_comes_twice_is_one():
    receiver, lacks = asyncio.run(told(("m1", "alert", 1), ("m1", "alert", 1), ("m2", "step", 3)))
    assert len(receiver.messages) == 2
    assert receiver.alerts == {1}
    assert lacks == {2}


def test_it_waits_no_longer_than_it_must():
    assert asyncio.run(told(("m1", "alert", 1), ("m2", "alert", 2)))[1] == set()


def test_one_that_comes_late_is_waited_for():
    async def late():
        async with Receiver() as receiver, aiohttp.ClientSession() as session:
            waiting = asyncio.create_task(receiver.lacks({5}, 10))
            await asyncio.sleep(0.05)
            async with session.post(receiver.url, data=b'{"data": {"kind": "alert", "id": 5}}', headers={"webhook-id": "m"}):
                return await waiting

    assert asyncio.run(late()) == set()
