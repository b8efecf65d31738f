"""secagg.json: what one client answers in whole sessions with drop-outs, and what it refuses, message by message."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from conformance.draws import Draws
from conformance.lies import LIES
from conformance.primitives import policy_fields
from orchestrator.errors import OrchestratorError
from orchestrator.secagg.client import Client
from orchestrator.secagg.graph import Policy
from orchestrator.secagg.messages import STAGES
from orchestrator.secagg.server import Server

ROUND = 3


@dataclass(frozen=True)
class Plot:
    """A session: how many clients, which of them are watched, and who falls silent at a stage.

    The table of lies knows the one on the complete graph: who is who there must stay.
    """

    num_clients: int
    watched: tuple[int, ...]
    silent: Mapping[str, Container[int]]
    min_survivors: int
    policy: Policy = Policy()
    num_slots: int = 7


PLOTS = {
    "complete graph": Plot(10, (0, 5), {"shares": {2}, "upload": {7}, "unmask": {4}}, 3),
    "drawn graph": Plot(
        20, (9,), {"shares": {1}, "upload": {2}}, 18, Policy(complete_up_to=0, security_bits=10, correctness_bits=10)
    ),
    "one client absent": Plot(5, (0,), {"advertise": {4}}, 3),
}


class Session:
    """A session with fixed keys: every message that passes.

    Attributes:
      wires: {stage: {client: the server's message}}.
      answers: {stage: {client: its answer}}.
      total: the sum that the server finds, and whose vectors it holds.
    """

    def __init__(self, name: str, plot: Plot):
        self.plot, self.agreed = plot, Draws(f"{name} agreed").draw(32)
        self.identities = [
            Ed25519PrivateKey.from_private_bytes(Draws(f"{name} identity {i}").draw(32))
            for i in range(plot.num_clients)
        ]
        self.public = [identity.public_key().public_bytes_raw() for identity in self.identities]
        self.draws = [Draws(f"{name} client {i}") for i in range(plot.num_clients)]
        self.vectors = [
            np.frombuffer(Draws(f"{name} vector {i}").draw(4 * plot.num_slots), "<u4") for i in range(plot.num_clients)
        ]
        clients = [self.client(i) for i in range(plot.num_clients)]
        with Draws(f"{name} server").used():
            server = Server(self.public, plot.num_slots, plot.policy, ROUND, plot.min_survivors, 1, self.agreed)
        self._draw_graph(server)
        self.wires: dict[str, dict[int, bytes]] = {}
        self.answers: dict[str, dict[int, bytes]] = {}
        opened = (server.invitations, server.rosters, server.deliveries, server.survivors, server.requests)
        for stage, open_stage in zip(STAGES, opened):
            self.wires[stage] = dict(open_stage())
            self.answers[stage] = {}
            for index, wire in self.wires[stage].items():
                if index not in plot.silent.get(stage, ()):
                    self.answers[stage][index] = answer = self.answer(clients[index], index, stage, wire)
                    server.receive(index, answer)
        self.total = server.total()

    @staticmethod
    def _draw_graph(server: Server) -> None:
        """A circle in the order of the clients' numbers, in place of the operating system's."""
        graph = server._graph
        graph._circle = list(range(len(graph._circle)))
        graph._place = {index: index for index in graph._circle}

    def client(self, index: int) -> Client:
        """Returns a client that waits for its invitation."""
        return Client(self.identities[index], frozenset(self.public), self.plot.policy, set(), self.agreed)

    def answer(self, client: Client, index: int, stage: str, wire: bytes) -> bytes:
        """Returns the client's answer to a message."""
        steps = {"advertise": client.advertise, "shares": client.share, "consistency": client.consent}
        with self.draws[index].used():
            if stage == "upload":
                return client.mask(wire, self.vectors[index])
            return steps.get(stage, client.unmask)(wire)

    def again(self, name: str, index: int) -> Client:
        """Returns a client that draws from the beginning, as it did."""
        self.draws[index] = Draws(f"{name} client {index}")
        return self.client(index)

    def refusal(self, name: str, index: int, wires: Mapping[str, bytes]) -> dict[str, object]:
        """Returns what a client says to the last of these messages, which it must refuse."""
        client = self.again(name, index)
        *honest, last = wires
        for stage in honest:
            self.answer(client, index, stage, wires[stage])
        try:
            self.answer(client, index, last, wires[last])
        except OrchestratorError as error:
            return {"error": type(error).__name__, "text": str(error)}
        raise AssertionError(f"{last}: the client took a lie")


def secagg() -> dict[str, object]:
    """Returns the file's content."""
    return {name: _session(name, plot) for name, plot in PLOTS.items()}


def _session(name: str, plot: Plot) -> dict[str, object]:
    session = Session(name, plot)
    watched = [_watched(session, index) for index in plot.watched]
    total, alive = session.total
    return {
        "policy": policy_fields(plot.policy),
        "enrolled": [key.hex() for key in session.public],
        "agreed": session.agreed.hex(),
        "total": total.tolist(),
        "alive": list(alive),
        "clients": watched,
        "refusals": _refusals(name, session),
    }


def _watched(session: Session, index: int) -> dict[str, object]:
    return {
        "index": index,
        "identity": session.identities[index].private_bytes_raw().hex(),
        "draws": [octets.hex() for octets in session.draws[index].drawn],
        "vector": session.vectors[index].tolist(),
        "messages": [
            {"stage": stage, "wire": session.wires[stage][index].hex(), "answer": session.answers[stage][index].hex()}
            for stage in STAGES
        ],
    }


def _refusals(name: str, session: Session) -> list[dict[str, object]]:
    """Each lie: the honest messages that it replaces, the last of which the first watched client refuses."""
    found, index = [], session.plot.watched[0]
    for told, stage, lie in LIES[name]:
        changed = lie(session)
        stages = STAGES[: STAGES.index(stage) + 1]
        wires = {own: changed.get(own, session.wires[own][index]) for own in stages}
        refused = session.refusal(name, index, wires)
        replaced = {own: wire.hex() for own, wire in changed.items()}
        found.append({"lie": told, "stage": stage, "replaced": replaced, **refused})
    return found
