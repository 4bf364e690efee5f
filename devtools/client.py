"""Talks to a running ComfyUI: HTTP for prompts and files, a websocket for what happens meanwhile."""

from __future__ import annotations

import io
import json
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import requests
import websocket
from PIL import Image

PREVIEW_FRAME = 1  # binary websocket message: uint32 1, uint32 image format, then a JPEG or PNG file
TEXT_FRAME = 3  # uint32 3, uint32 length of the node's id, the id, then the text
LAST_EVENTS = {"execution_success", "execution_error", "execution_interrupted"}


class PromptRejected(RuntimeError):
    """The host refused a prompt. `node_errors` maps node ids to what is wrong with them."""

    def __init__(self, answer: dict[str, Any]):
        self.error = answer["error"]
        self.node_errors = answer["node_errors"]
        super().__init__(f"{self.error['message']}: {json.dumps(self.node_errors or self.error)}")


class PromptFailed(RuntimeError):
    """A prompt ended without success. `details` is the host's report: exception_message, traceback, ..."""

    def __init__(self, event: str, details: dict[str, Any]):
        self.event = event
        self.details = details
        self.node_type = details.get("node_type")
        self.exception_message = details.get("exception_message", "").strip()
        super().__init__(f"{event} in {self.node_type}: {self.exception_message}")


@dataclass(frozen=True)
class Event:
    """One websocket message: `data` is a dict, a PIL image where `type` is "preview", (node, text) where "text"."""

    type: str
    data: Any

    @property
    def prompt_id(self) -> str | None:
        return self.data.get("prompt_id") if isinstance(self.data, dict) else None


class EventStream:
    """The messages the host sends to one client; open it before queueing a prompt under its `client_id`."""

    def __init__(self, address: str):
        self.client_id = uuid.uuid4().hex
        self._socket = websocket.create_connection(f"ws://{address}/ws?clientId={self.client_id}", timeout=30)

    def close(self) -> None:
        self._socket.close()

    def until_finished(self, prompt_id: str, timeout: float = 120.0) -> Iterator[Event]:
        """Every event of `prompt_id` up to and including its last. Raises TimeoutError."""
        deadline = time.monotonic() + timeout
        while True:
            event = self._receive(deadline)
            if event is None or event.prompt_id not in (None, prompt_id):
                continue
            yield event
            if event.type in LAST_EVENTS:
                return

    def _receive(self, deadline: float) -> Event | None:
        self._socket.settimeout(max(deadline - time.monotonic(), 0.001))
        try:
            message = self._socket.recv()
        except websocket.WebSocketTimeoutException:
            raise TimeoutError("the prompt's last event did not come in time") from None
        if isinstance(message, str):
            message = json.loads(message)
            return Event(message["type"], message["data"])
        frame, length = int.from_bytes(message[:4], "big"), int.from_bytes(message[4:8], "big")
        if frame == PREVIEW_FRAME:
            return Event("preview", Image.open(io.BytesIO(message[8:])))
        if frame == TEXT_FRAME:
            return Event("text", (message[8 : 8 + length].decode(), message[8 + length :].decode()))
        return None


class Client:
    """A ComfyUI at `address` ("127.0.0.1:8188")."""

    def __init__(self, address: str):
        self.address = address
        self.url = f"http://{address}"
        self._session = requests.Session()
        self._session.trust_env = False  # a proxy is of no use on the loopback

    def request(self, method: str, path: str, **options: Any) -> requests.Response:
        options.setdefault("timeout", 60)
        return self._session.request(method, self.url + path, **options)

    def get(self, path: str, **query: Any) -> Any:
        """The JSON answer to a GET; requests.HTTPError on a bad status."""
        answer = self.request("GET", path, params=query)
        answer.raise_for_status()
        return answer.json()

    def object_info(self) -> dict[str, Any]:
        return self.get("/object_info")

    def queue(self, prompt: dict[str, Any], client_id: str | None = None) -> str:
        """Queue an API-format prompt; return its id. Raises PromptRejected."""
        body = {"prompt": prompt, "client_id": client_id or uuid.uuid4().hex}
        answer = self.request("POST", "/prompt", json=body)
        if answer.status_code == 400:
            raise PromptRejected(answer.json())
        answer.raise_for_status()
        return answer.json()["prompt_id"]

    def wait(self, prompt_id: str, timeout: float = 120.0) -> dict[str, Any]:
        """The history entry of a finished prompt, whether it succeeded or not."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            history = self.get(f"/history/{prompt_id}")
            if prompt_id in history:
                return history[prompt_id]
            time.sleep(0.05)
        raise TimeoutError(f"prompt {prompt_id} is not finished after {timeout:g} s")

    def outputs(self, prompt_id: str, timeout: float = 120.0) -> dict[str, Any]:
        """Wait for a prompt; return its outputs by node id. Raises PromptFailed."""
        entry = self.wait(prompt_id, timeout)
        if entry["status"]["status_str"] != "success":
            raise PromptFailed(*entry["status"]["messages"][-1])
        return entry["outputs"]

    def run(self, prompt: dict[str, Any], timeout: float = 120.0) -> dict[str, Any]:
        """Queue an API-format prompt and return its outputs. Raises PromptRejected or PromptFailed."""
        return self.outputs(self.queue(prompt), timeout)

    def view(self, filename: str, subfolder: str = "", type: str = "output") -> bytes:
        """The bytes of a file in the host's "output", "input" or "temp" folder."""
        query = {"filename": filename, "subfolder": subfolder, "type": type}
        answer = self.request("GET", "/view", params=query)
        answer.raise_for_status()
        return answer.content

    def images(self, outputs: dict[str, Any]) -> list[Image.Image]:
        """All images among a prompt's outputs, in the order of the nodes."""
        files = [file for output in outputs.values() for file in output.get("images", [])]
        return [Image.open(io.BytesIO(self.view(**file))) for file in files]

    def upload_image(self, image: Image.Image, filename: str) -> str:
        """Put a PNG into the host's input folder; return the name that LoadImage takes."""
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        files = {"image": (filename, buffer.getvalue(), "image/png")}
        answer = self.request("POST", "/upload/image", files=files, data={"overwrite": "true"})
        answer.raise_for_status()
        return answer.json()["name"]

    @contextmanager
    def listen(self) -> Iterator[EventStream]:
        with closing(EventStream(self.address)) as stream:
            yield stream

    def interrupt(self) -> None:
        """Stop the running prompt."""
        self.request("POST", "/interrupt", json={}).raise_for_status()

    def free(self) -> None:
        """Have the host unload all models and drop cached results before its next prompt."""
        self.request("POST", "/free", json={"unload_models": True, "free_memory": True}).raise_for_status()
