"""What a browser still asks of a page that it has left: nothing is done about it.

Light to import: the server reads it before it answers anybody.
"""

from __future__ import annotations

import streamlit as st
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ClientState_pb2 import ClientState


class LeftPages:
    """ASGI middleware: what a fragment asks for after its browser went to another page is not passed on.

    Elements that poll, or that a hand still moves, ask until the other page is there. Streamlit would begin a run of
    the page that was left, for nothing: the browser empties the other page then, and the next that comes for it finds
    no place, which leaves the window white.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        page = ""  # that the browser asked for last; "" while it is the one of its address

        async def receive_for_page() -> Message:
            nonlocal page
            while True:
                message = await receive()
                asked = _asked_in(message)
                if asked is not None and not asked.fragment_id:
                    page = asked.page_script_hash
                if asked is None or not page or asked.page_script_hash == page:
                    return message

        await self._app(scope, receive_for_page if scope["type"] == "websocket" else receive, send)


def _asked_in(message: Message) -> ClientState | None:
    """The run that a message asks for, None for any other."""
    told, content = BackMsg(), message.get("bytes") or b""
    if len(content) > st.get_option("server.maxWidgetStateSize") * 1_000_000:  # not read: Streamlit closes
        return None
    try:
        told.ParseFromString(content)
    except Exception:  # protobuf's, for what is none of its messages: Streamlit says so, and closes
        return None
    return told.rerun_script if told.HasField("rerun_script") else None
