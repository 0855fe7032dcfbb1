"""What a browser still asks of a page that it has left is not passed on, and all else is."""

import asyncio

import pytest
from streamlit.proto.BackMsg_pb2 import BackMsg

from pages.ui.session.left_pages import LeftPages


def asks(page, fragment="", query="s=1"):
    message = BackMsg()
    message.rerun_script.page_script_hash, message.rerun_script.fragment_id = page, fragment
    message.rerun_script.query_string = query
    return {"type": "websocket.receive", "bytes": message.SerializeToString()}


def passed(*messages, kind="websocket"):
    """What the app is told of what a browser sends."""
    told, sent = [], iter((*messages, {"type": "websocket.disconnect"}))

    async def receive():
        return next(sent)

    async def app(scope, receive, send):
        while not told or told[-1]["type"] != "websocket.disconnect":
            told.append(await receive())

    asyncio.run(LeftPages(app)({"type": kind}, receive, None))
    return tuple(told[:-1])


def test_a_fragment_of_the_page_that_was_left_asks_in_vain():
    there = asks("explore"), asks("explore", "bars"), asks("learn"), asks("learn", "figures"), asks("learn")
    late = asks("explore", "bars")
    assert passed(*there[:3], late, there[3], late, late, there[4]) == there


def test_who_comes_back_is_answered_again():
    messages = asks("explore"), asks("learn"), asks("explore"), asks("explore", "bars")
    assert passed(*messages) == messages


def test_the_page_of_the_address_has_no_name_yet():
    messages = asks(""), asks("explore", "bars"), asks("explore", "figures")
    assert passed(*messages) == messages


def stop():
    message = BackMsg()
    message.stop_script = True
    return message.SerializeToString()


@pytest.mark.parametrize("content", [{"bytes": b"\xff\xff\xff"}, {"bytes": b""}, {"text": "hello"}, {"bytes": stop()}])
def test_what_asks_for_no_run_is_passed_on(content):
    messages = asks("learn"), {"type": "websocket.receive", **content}, asks("learn", "figures")
    assert passed(*messages) == messages


def test_what_is_too_large_for_streamlit_is_not_read():
    messages = asks("learn"), asks("explore", "bars", query="s" * 4_100_000)
    assert passed(*messages, asks("explore", "bars", query="s" * 3_900_000)) == messages


def test_each_connection_has_its_own_page():
    async def both():
        told = [], []

        async def app(scope, receive, send):
            for _ in range(2):
                told[scope["which"]].append(await receive())

        served = LeftPages(app)
        sent = iter((asks("explore"), asks("explore", "bars"))), iter((asks("learn"), asks("learn", "figures")))

        def connection(which):
            async def receive():
                await asyncio.sleep(0)
                return next(sent[which])

            return served({"type": "websocket", "which": which}, receive, None)

        await asyncio.gather(connection(0), connection(1))
        return tuple(map(len, told))

    assert asyncio.run(both()) == (2, 2)


def test_requests_are_left_alone():
    late = asks("explore", "bars")
    assert passed(asks("learn"), late, kind="http") == (asks("learn"), late)
