"""The C library's client of the protocol as a process: questions and answers as frames over a pipe."""

from __future__ import annotations

import json
import shlex
import shutil
import struct
import subprocess
from contextlib import suppress
from functools import cache
from os import environ
from pathlib import Path

import numpy as np
import pytest
from twin import Twin

import edge
from edge.clients import arm64, c_client
from orchestrator.network import messages
from orchestrator.network.errors import NetworkError

DEMANDS = {  # the usual ones of a roster of ten or fewer, in the order of fk_protocol.h
    "corrupt_share": 0.05, "dropout_share": 0.3, "security_bits": 40, "correctness_bits": 20, "semi_malicious": 1,
    "complete_up_to": 200, "min_survivors": 3, "max_clients": 1 << 20,
    "max_cohort": 10_000, "max_epochs": 100, "max_sentences": 100_000, "max_batch_tokens": 1_000_000,
    "max_weights": 1 << 26, "max_minutes": 30.0, "max_memory_mib": 4096, "max_magnitude": 1e3,
    "max_learning_rate": 10.0,
}  # fmt: skip
LIBCRYPTO = ["pkg-config", "--exists", "libcrypto"]


def conformance(name):
    return json.loads((Path(edge.__file__).parent / "conformance" / f"{name}.json").read_text("utf-8"))


def numbers(fields):
    return [float(field) for field in fields]


def policy_fields(policy):
    fields = {**policy, "max_clients": 1 << 20}
    fields["semi_malicious"] = int(fields["semi_malicious"])
    return [repr(value) for value in fields.values()]


def unhex(*texts):
    return [bytes.fromhex(text) for text in texts]


class Refused(NetworkError):
    """What the C client refuses.

    Attributes:
      name: Python's name of the error.
      rest: what it says besides.
    """

    def __init__(self, status, text, *rest):
        super().__init__(text)
        self.rest = rest
        self.name = "".join(word.capitalize() for word in status.split("_")[1:])


@cache
def peer_path(sanitized=True):
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


@cache
def arm64_peer():
    """The command of the peer for ARM64, built anew if a source is newer; skips the test where it can't be."""
    if arm64.why_not():
        pytest.skip(f"no processor for ARM64: {arm64.why_not()}")
    script = Path(edge.__file__).parents[1] / "scripts" / "arm64.sh"
    done = subprocess.run([script, arm64.arm64_folder()], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return arm64.emulated("build/protocol_peer")


class CPeer:
    """A process that answers; used as a context it must end well: no leak, no error of memory.

    Args:
      command: what runs it; None takes the build with sanitizers.
    """

    def __init__(self, command=None):
        self._process = subprocess.Popen(command or [peer_path()], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        code = self.close()
        assert kind or code == 0

    def close(self):
        with suppress(BrokenPipeError):  # it was killed
            self._process.stdin.close()
        code = self._process.wait(60)
        self._process.stdout.close()
        return code

    def kill(self):
        """Ends the process as a phone's system does."""
        self._process.kill()
        self._process.wait(60)

    def ask(self, *fields):
        """The fields of the reply to a question; numbers travel as text."""
        self.send(*fields)
        first, *rest = self.receive()
        if first == b"error":
            raise Refused(rest[0].decode(), rest[1].decode(), *rest[2:])
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


class CParticipant:
    """The C library's participant in a process of its own; its training and its journal are the caller's.

    Args:
      client_id, identity, roster: as the server's operator enrolled it; keys as bytes.
      train: (round number, learning rate, weights as bytes) -> (update as bytes, tokens, examples, draws of rounding,
        of which the last is of float64).
      spent: {seed: the last round}, which it changes.
      draws: what it draws, in order; empty takes the operating system's randomness, and "rounding" too, but rounds by
        the draws that training gives.
      demands: policy and limits, as numbers in the order of fk_protocol.h; the usual ones if there are none.
    """

    def __init__(self, peer, client_id, identity, roster, train, spent, draws=b"", demands=(), step_ms=0):
        self._peer, self._trainer, self._spent = peer, train, spent
        self.goodbye, self.was_starved = None, False
        names = [(name.encode(), key) for name, key in roster.items()]
        blob = b"".join(bytes([len(name)]) + name + key for name, key in names)
        self._peer.ask("participant", client_id, identity, blob, step_ms, draws, *map(repr, demands))

    def answer(self, message, starved_at=0):
        """The answer's bytes, or None; of the library's allocations that one fails, counted from 1."""
        self._peer.send("answer", message, starved_at)
        while True:
            first, *rest = self._peer.receive()
            if first == b"error":
                raise Refused(rest[0].decode(), rest[1].decode())
            if first == b"ok":
                self.goodbye, self.was_starved = rest[2].decode() or None, rest[3] == b"1"
                return rest[1] if rest[0] == b"1" else None
            self._peer.send(*getattr(self, f"_{first.decode()}")(*rest))

    def _last_round(self, seed):
        return "ok", self._spent.get(int(seed), 0)

    def _spend(self, seed, round_num):
        try:
            self._spent[int(seed)] = int(round_num)
        except OSError as error:
            return (str(error),)
        return ("ok",)

    def _train(self, round_num, rate, weights):
        try:
            delta, num_tokens, num_examples, draws, last = self._trainer(int(round_num), float(rate), weights)
        except OSError as error:
            return (str(error),)
        return "ok", delta, num_tokens, num_examples, draws, repr(last)

    def join(self, nonce):
        """The first message over a WebSocket, and the signature in it."""
        return self._peer.ask("join", nonce)


class CClient:
    """Answers as orchestrator.network.client.Participant does, and takes the same arguments; each is a process.

    The training is Python's, of the same text, and the rounding draws what Python's does: the sum must be the same.

    Args:
      killed_at: the stage at which its process is killed.
      command: what runs the process; see CPeer.
    """

    def __init__(self, client_id, identity, enrolled, *rest, killed_at=None, command=None, **others):
        self._twin = Twin(client_id, identity, enrolled, *rest, **others)
        self._journal, self.client_id, self._killed_at = self._twin.journal, client_id, killed_at
        own, self._round_num = identity.public_key().public_bytes_raw(), 0
        roster = {f"peer {i}": key for i, key in enumerate(sorted(enrolled - {own}))}
        self.peer = CPeer(command)
        self.peer.ask("helpers", b"".join(self._twin.helpers))
        demands = {**DEMANDS, "min_survivors": 2}.values()  # the run's, as Python's clients in the test
        raw = identity.private_bytes_raw()
        rest = {"draws": b"rounding", "demands": demands}
        self._client = CParticipant(self.peer, client_id, raw, {**roster, client_id: own}, self._trained, {}, **rest)

    @property
    def goodbye(self):
        return self._client.goodbye

    def answer(self, message):
        found = messages.decode(message, messages.TO_CLIENT)
        if isinstance(found, messages.Setup):
            self._twin.hear(message)
        self._round_num = getattr(found, "round_num", self._round_num)
        if self._killed_at is not None and getattr(found, "stage", "train") == self._killed_at:
            self.peer.kill()
        return self._client.answer(message)

    def _trained(self, round_num, rate, weights):
        tensors = self._twin.cut(np.frombuffer(weights, "<f4"))
        delta, weight = self._twin.trained(tensors, round_num, rate)
        draws, last = self._twin.rounding(round_num, len(weights) // 4)
        return b"".join(tensor.tobytes() for tensor in delta), weight, weight, draws.tobytes(), last
