"""What an operator may see of a run while it is served: who is there, where the round stands, what the rounds gave.

The server's thread writes it, and any thread reads it. Nothing waits for a reader: both sides hold a lock for as long
as it takes to copy a few names. It holds what this server knows anyway and shows its operator: no text, no update, and
of a round's figures those only that are of ten people or more.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Optional

import msgspec

from models.corpus import ClientId
from models.disclosure import MIN_GROUP
from orchestrator.network.hub import Hub
from orchestrator.network.lobby import Lobby
from orchestrator.run.lines import Round

_SAMPLE_BYTES = 48  # of an upload
_TRAINING, _DEV = ("train_loss",), ("dev_loss", "dev_top1", "dev_top3")


class Upload(NamedTuple):
    """The answer in which a client's update travels. stage: whose answer; alone: what a server reads in one alone."""

    stage: str
    alone: str


UPLOADS: Mapping[str, Upload] = {
    "secagg": Upload("upload", "nothing, since masks cover every number and cancel only in the sum of those who stay"),
    "encrypted": Upload("encrypt", "nothing: only the decryptor can open it, and opens sums alone"),
    "split": Upload("train", "nothing without every helper: they hold the seeds of its mask, and open sums alone"),
}


class ClientState(msgspec.Struct, frozen=True):
    """A client of the roster. State: what it does in the newest round; empty if it is not in it."""

    client_id: ClientId
    is_connected: bool
    state: str  # "", chosen, asked, answered, silent, refused, summed or lost
    bytes_up: int  # of its messages since the server started, over all of its connections
    bytes_down: int


class UploadSeen(msgspec.Struct, frozen=True):
    """A protected update as it was received. Sample: a few bytes from its middle, as hex."""

    round_num: int
    client_id: ClientId
    num_bytes: int
    sample: str


class View(msgspec.Struct, frozen=True):
    """The moment.

    Attributes:
      run: the folder's name.
      phase: starting, lobby, waiting (for clients), rounds, done or abandoned.
      reason: why it was abandoned.
      enrolled, wanted: of the lobby: how many of its codes were used; 0 and 0 without one.
      kind: how the updates are summed, a key of UPLOADS; empty before that is known.
      num_rounds: of the run.
      round_num: the newest; 0 before the first.
      stages: of that round, those begun, the newest last.
      clients: the roster, in the order of names.
      upload: the newest.
    """

    run: str
    phase: str
    reason: str
    enrolled: int
    wanted: int
    kind: str
    num_rounds: int
    round_num: int
    stages: tuple[str, ...]
    clients: tuple[ClientState, ...]
    upload: Optional[UploadSeen]


class RoundSeen(msgspec.Struct, frozen=True):
    """A round that is over: a line of rounds.jsonl, without what is of few people."""

    round_num: int
    outcome: str
    reason: str
    selected: int
    survivors: int
    lost: tuple[ClientId, ...]
    wall_s: float
    metrics: Mapping[str, float]


class Progress:
    """Keeps the newest state of a run that is served. Any thread may call it.

    Args:
      run: the name of the run's folder.
    """

    def __init__(self, run: str = ""):
        self._lock = threading.Lock()
        self._run, self._kind, self._num_rounds = run, "", 0
        self._phase, self._reason = "starting", ""
        self._lobby: Optional[Lobby] = None
        self._hub: Optional[Hub] = None
        self._roster: Sequence[ClientId] = ()
        self._round_num, self._stages = 0, list[str]()
        self._members: dict[ClientId, str] = {}
        self._upload: Optional[UploadSeen] = None
        self._rounds: list[RoundSeen] = []

    def open_lobby(self, lobby: Lobby) -> None:
        """Phones can enrol."""
        with self._lock:
            self._phase, self._lobby = "lobby", lobby

    def begin(self, hub: Hub, roster: Iterable[ClientId], kind: str, num_rounds: int) -> None:
        """Clients can connect.

        Args:
          hub: keeps their connections.
          roster: all clients.
          kind: how the updates are summed.
          num_rounds: of the run.
        """
        with self._lock:
            self._phase, self._hub, self._roster = "starting", hub, sorted(roster)
            self._kind, self._num_rounds = kind, num_rounds

    def resume(self, before: Iterable[Round]) -> None:
        """Rounds were done before this server started."""
        with self._lock:
            self._rounds = [_seen(line) for line in before]

    def wait(self, round_num: int) -> None:
        """A round waits for its clients."""
        with self._lock:
            self._phase, self._round_num = "waiting", round_num
            self._stages, self._members = [], {}

    def begin_round(self, members: Iterable[ClientId]) -> None:
        """It has them."""
        with self._lock:
            self._phase, self._members = "rounds", dict.fromkeys(members, "chosen")

    def ask(self, stage: str, members: Iterable[ClientId]) -> None:
        """Members are asked for a stage's answer."""
        with self._lock:
            if stage not in self._stages:  # each group of a cohort has its own
                self._stages.append(stage)
            self._members.update(dict.fromkeys(members, "asked"))

    def answered(self, stage: str, member: ClientId, body: memoryview) -> None:
        """A member's answer to a stage was taken."""
        start = max(0, (len(body) - _SAMPLE_BYTES) // 2)
        with self._lock:
            self._members[member] = "answered"
            if self._kind in UPLOADS and stage == UPLOADS[self._kind].stage:
                sample = body[start : start + _SAMPLE_BYTES].hex()
                self._upload = UploadSeen(self._round_num, member, len(body), sample)

    def refused(self, member: ClientId) -> None:
        """A member declined, or its answer was none."""
        with self._lock:
            self._members[member] = "refused"

    def silent(self, members: Iterable[ClientId]) -> None:
        """Members did not answer in time."""
        with self._lock:
            self._members.update(dict.fromkeys(members, "silent"))

    def end_round(self, line: Round) -> None:
        """A round is over, and its line kept."""
        with self._lock:
            self._rounds.append(_seen(line))
            summed = set(line.survivors)
            self._members = {
                member: "summed" if member in summed else state if state in ("silent", "refused") else "lost"
                for member, state in self._members.items()
            }

    def end(self, phase: str, reason: str = "") -> None:
        """The run is over for this server: done, or abandoned, and why."""
        with self._lock:
            self._phase, self._reason = phase, reason

    def view(self) -> View:
        """Returns the moment."""
        with self._lock:
            hub, lobby, members = self._hub, self._lobby, dict(self._members)
            view = View(
                self._run,
                self._phase,
                self._reason,
                lobby.enrolled if lobby is not None else 0,
                lobby.wanted if lobby is not None else 0,
                self._kind,
                self._num_rounds,
                self._round_num,
                tuple(self._stages),
                (),
                self._upload,
            )
            roster = self._roster
        if hub is None:
            return view
        there, traffic = hub.connected(), hub.traffic
        clients = (ClientState(own, own in there, members.get(own, ""), *traffic[own].total) for own in roster)
        return msgspec.structs.replace(view, clients=tuple(clients))

    def rounds_after(self, number: int, most: int) -> Sequence[RoundSeen]:
        """Returns the rounds that are over, without the first `number`; `most` at a time."""
        with self._lock:
            return self._rounds[number : number + most]


def _seen(line: Round) -> RoundSeen:
    summed = set(line.survivors)
    lost = tuple(member for member in line.selected if member not in summed)
    allowed = ["update_norm"]
    if len(line.survivors) >= MIN_GROUP:
        allowed += _TRAINING
    if not line.metric("dev_people") < MIN_GROUP:  # older runs did not count them
        allowed += _DEV
    metrics = {name: line.metric(name) for name in allowed if math.isfinite(line.metric(name))}
    num_selected, num_survivors = len(line.selected), len(line.survivors)
    return RoundSeen(line.round_num, line.outcome, line.reason, num_selected, num_survivors, lost, line.wall_s, metrics)
