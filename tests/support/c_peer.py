"""The C library's client of the protocol as a process: questions and answers as frames over a pipe."""

from __future__ import annotations

import shlex
import shutil
import struct
import subprocess
from functools import cache
from os import environ

import pytest

from edge.clients import c_client
from orchestrator.network.errors import NetworkError

LIBCRYPTO = ["pkg-config", "--exists", "libcrypto"]


class Refused(NetworkError):
    """What the C client refuses.

    Attributes:
      name: Python's name of the error.
    """

    def __init__(self, status, text):
        super().__init__(text)
        self.name = "".join(word.capitalize() for word in status.split("_")[1:])


@cache
def peer_path(sanitized):
    """Builds the peer, or skips the test where a tool for it is missing."""
    compiler = shlex.split(environ.get("CC") or "cc")[0]
    missing = [tool for tool in ("make", compiler, "pkg-config") if shutil.which(tool) is None]
    if missing or subprocess.run(LIBCRYPTO, check=False).returncode:
        pytest.skip(f"{missing or 'libcrypto'} not found: on Debian, build-essential pkg-config libssl-dev")
    command = ["make", "-s", "-C", str(c_client.SOURCE), "protocol-peer"]
    folder = c_client.build_folder()
    command += [f"BUILD={folder}", *(["SANITIZE=address,undefined"] if sanitized else [])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / f"protocol_peer{'-sanitized' if sanitized else ''}"


class CPeer:
    """A process that answers; used as a context it must end well: no leak, no error of memory."""

    def __init__(self, sanitized=True):
        self._process = subprocess.Popen([peer_path(sanitized)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        code = self.close()
        assert kind or code == 0

    def close(self):
        self._process.stdin.close()
        code = self._process.wait(60)
        self._process.stdout.close()
        return code

    def ask(self, *fields):
        """The fields of the reply to a question; numbers travel as text."""
        self.send(*fields)
        first, *rest = self.receive()
        if first == b"error":
            raise Refused(rest[0].decode(), rest[1].decode())
        assert first == b"ok", first
        return rest

    def send(self, *fields):
        octets = [field if isinstance(field, bytes) else str(field).encode() for field in fields]
        whole = b"".join(struct.pack(">I", len(field)) + field for field in octets)
        self._process.stdin.write(struct.pack(">I", len(whole)) + whole)
        self._process.stdin.flush()

    def receive(self):
        head = self._process.stdout.read(4)
        assert len(head) == 4, "the peer has ended"
        whole, fields = self._process.stdout.read(struct.unpack(">I", head)[0]), []
        while whole:
            size = struct.unpack(">I", whole[:4])[0]
            fields.append(whole[4 : 4 + size])
            whole = whole[4 + size :]
        return fields
