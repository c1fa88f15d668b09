"""A websocket client that knows nothing of this package, as projects have it from Channels."""

from __future__ import annotations

import json
from typing import Any

from asgiref.testing import ApplicationCommunicator

__all__ = ["WebsocketCommunicator"]

PATIENCE = 5.0
"""How long a frame may take, in seconds; whoever tests a server of threads has to wait."""


class WebsocketCommunicator(ApplicationCommunicator):
    """Has the names and the handshake of the communicator of Channels, whose tests need Daphne."""

    def __init__(
        self, application: Any, path: str, headers: Any = None, subprotocols: list[str] | None = None
    ) -> None:
        path, _, query = path.partition("?")
        self.scope: dict[str, Any] = {
            "type": "websocket",
            "path": path,
            "query_string": query.encode(),
            "headers": headers or [],
            "subprotocols": subprotocols or [],
        }
        super().__init__(application, self.scope)

    async def connect(self) -> tuple[bool, Any]:
        await self.send_input({"type": "websocket.connect"})
        answer = await self.receive_output(PATIENCE)
        if answer["type"] == "websocket.close":
            return False, answer.get("code", 1000)
        return True, answer.get("subprotocol")

    async def send_json_to(self, data: Any) -> None:
        await self.send_input({"type": "websocket.receive", "text": json.dumps(data)})

    async def receive_json_from(self) -> Any:
        answer = await self.receive_output(PATIENCE)
        assert answer["type"] == "websocket.send", answer
        return json.loads(answer["text"])

    async def disconnect(self, code: int = 1000) -> None:
        await self.send_input({"type": "websocket.disconnect", "code": code})
        await self.wait(PATIENCE)
