"""The browser's client, TypeScript in Node, in the place of Python's Participant: the same messages over a pipe."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from twin import Twin

import edge
from orchestrator.network import messages
from orchestrator.network.errors import NetworkError

PEER = Path(edge.__file__).parent / "clients" / "web" / "build" / "peer.mjs"
needs_node = pytest.mark.skipif(
    not (PEER.exists() and shutil.which("node")),
    reason="the browser's client is not built: make web, which needs Node 20",
)


class Refused(NetworkError):
    """What the browser's client refuses.

    Attributes:
      name: the error's.
    """

    def __init__(self, name, text):
        super().__init__(text)
        self.name = name


class NodeParticipant:
    """Answers as orchestrator.network.client.Participant does; takes the same arguments.

    The training is Python's, of the same text, and the rounding draws what Python's does: the sum must be the same.
    """

    def __init__(self, client_id, identity, enrolled, *rest, **others):
        self._twin = Twin(client_id, identity, enrolled, *rest, **others)
        self._journal = self._twin.journal
        own = identity.public_key().public_bytes_raw()
        roster = {f"peer {i}": key.hex() for i, key in enumerate(sorted(enrolled - {own}))}
        self.client_id, self.goodbye, self._round_num = client_id, None, 0
        command = ["node", "--no-warnings", "--experimental-websocket", str(PEER)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        begin = {
            "clientId": client_id,
            "key": identity.private_bytes_raw().hex(),
            "roster": {**roster, client_id: own.hex()},
            "aggregator": self._twin.aggregator,
            "helpers": [key.hex() for key in self._twin.helpers],
        }
        assert self._ask({"new": begin}) == {}

    def answer(self, message):
        found = messages.decode(message, messages.TO_CLIENT)
        if isinstance(found, messages.Setup):
            self._twin.hear(message)
        self._round_num = getattr(found, "round_num", self._round_num)
        said = self._ask({"answer": _to_text(message)})
        self.goodbye = said["goodbye"]
        return None if said["answered"] is None else base64.b64decode(said["answered"])

    def take_part(self, url, setup):
        """Takes part in all rounds over a WebSocket, and returns the goodbye's reason."""
        self._twin.hear(setup)
        return self._ask({"takePart": url})["goodbye"]

    def close(self):
        self._process.stdin.close()
        self._process.wait(20)
        self._process.stdout.close()

    def _ask(self, line):
        while True:
            self._process.stdin.write(json.dumps(line) + "\n")
            self._process.stdin.flush()
            said = json.loads(self._process.stdout.readline())
            if "error" in said:
                raise Refused(said["error"], said["text"])
            if "train" not in said:
                return said
            line = {"trained": self._trained(**said["train"])}

    def _trained(self, weights, roundNum, learningRate):
        tensors = [np.frombuffer(base64.b64decode(raw), "<f4") for raw in weights]
        delta, weight = self._twin.trained(tensors, roundNum, learningRate)
        return {"delta": [_to_text(tensor.tobytes()) for tensor in delta], "numTokens": weight, "numExamples": weight}


def _to_text(octets):
    return base64.b64encode(octets).decode("ascii")
