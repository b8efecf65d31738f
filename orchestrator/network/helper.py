"""Runs a helper of the split sum in a separate process, and calls it from the server.

It has one call: Open(list) returns the sum of the list's masks, once for each round. It answers only who shows the
server's certificate, and decides by the roster, the keys and the minimum on its machine. See orchestrator/split.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Callable, Optional

import grpc

from orchestrator.errors import BelowThreshold
from orchestrator.network import messages
from orchestrator.network.certificates import SERVER, helper_role, read_helpers, read_sealing_key, read_signed_roster
from orchestrator.network.channel import check_server, explained, open_channel
from orchestrator.network.roster import Seen, require_newest
from orchestrator.network.service import Service, in_one_line
from orchestrator.network.session import Helpers
from orchestrator.network.tls import Tls
from orchestrator.secagg.graph import fewest_survivors
from orchestrator.settings.sections import AggregationConfig
from orchestrator.split.errors import SeedRefused
from orchestrator.split.helper import MaskHelper
from orchestrator.split.opened import OpenedRounds
from orchestrator.units import count_text
from orchestrator.wire import as_one_line, encode

_WAIT_S, _PAUSE_S = 10.0, 0.2
_PASSING = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)  # it is gone, and may come back


def helper_service(
    keys: Path, number: int, opened: Path, min_contributions: Optional[int], note: Callable[[str], None]
) -> Service:
    """Returns a helper as a process of its own serves it.

    It reads the roster anew for each list, since phones enrol while it waits, and takes none older than the last.

    Args:
      keys: a folder with the helper's files, ca.pem, operator.pub, helpers.pub and roster.json.
      number: which of the helpers it is, from 1 on.
      opened: the file that keeps which rounds it has opened.
      min_contributions: the fewest vectors of which it opens the masks; None takes so many of the roster that two are
        honest clients'.
      note: called with a line for what the file holds, and for each list that it opened or refused.
    """
    role, say = helper_role(number), in_one_line(note)
    private, helpers = read_sealing_key(keys / f"{role}_seal.key"), read_helpers(keys)
    rounds = OpenedRounds(opened)
    seen: Optional[Seen] = None

    def current() -> MaskHelper:
        nonlocal seen
        roster = read_signed_roster(keys)
        if roster.signature:
            require_newest(roster, seen)
            seen = roster.seen
        least = min_contributions or fewest_survivors(len(roster.clients), AggregationConfig().corrupt_share)
        return MaskHelper(private, helpers, roster.clients, least, rounds, os.cpu_count() or 1)

    def open_masks(request: bytes) -> bytes:
        try:
            answer = current().open(request)
        except SeedRefused as error:
            say(f"refused: {error}")
            return encode(messages.SeedsRefused(list(error.client_ids)))
        say(f"opened the masks of a list: {len(answer):,} bytes")
        return encode(messages.MasksOpened(memoryview(answer)))

    current()  # what is wrong with the keys is told before it listens
    service = Service(Tls.of_role(keys, role), {messages.OPEN_MASKS: open_masks}, say, {}, rounds.close)
    before = rounds.count()
    say(f"{opened}: {count_text(before, 'list')} opened before" if before else f"{opened} is new")
    return service


class RemoteHelper:
    """The server's connection to a helper.

    Args:
      address: HOST:PORT.
      keys: a folder with ca.pem, server.key and server.pem.
      number: which of the helpers it is, from 1 on.
      wait_s: how long a list waits for a helper that is away, in seconds.

    Raises:
      NetworkError: nobody answers there, or the certificate is another.
    """

    def __init__(self, address: str, keys: Path, number: int, wait_s: float):
        tls, role = Tls.of_role(keys, SERVER), helper_role(number)
        check_server(address, tls, _WAIT_S, role)
        self._channel = open_channel(address, tls, role)
        self._who, self._address, self._wait_s = f"helper {number} at {address}", address, wait_s

    def open(self, request: bytes) -> bytes:
        """See orchestrator.split.helper.MaskHelper. A list that was lost on its way is sent again.

        Raises:
          SeedRefused: some sealed seeds do not open.
          BelowThreshold: the helper refuses, or is away for too long.
        """
        answer = messages.decode(self._call(request), messages.FROM_HELPER)
        if isinstance(answer, messages.SeedsRefused):
            raise SeedRefused([as_one_line(client_id) for client_id in answer.client_ids])
        return bytes(answer.body)

    def _call(self, request: bytes) -> bytes:
        deadline = time.monotonic() + self._wait_s
        while True:
            try:
                left = max(deadline - time.monotonic(), _PAUSE_S)
                return self._channel.unary_unary(messages.OPEN_MASKS)(request, timeout=left, wait_for_ready=True)
            except grpc.RpcError as error:
                code, details = error.code(), as_one_line(error.details() or "")
                if code is grpc.StatusCode.FAILED_PRECONDITION:
                    raise BelowThreshold(f"{self._who} opens nothing: {details}") from None  # ends this round only
                if code is grpc.StatusCode.DEADLINE_EXCEEDED or time.monotonic() >= deadline:
                    raise BelowThreshold(f"{self._who} has not answered in {self._wait_s:g} s") from None
                if code not in _PASSING:
                    raise explained(self._address, error) from None
            time.sleep(_PAUSE_S)


def reach_helpers(addresses: Sequence[str], keys: Path, run: str, wait_s: float) -> Optional[Helpers]:
    """Returns the helpers of a run, None if no address is given.

    Args:
      addresses: HOST:PORT of each, in the order of helpers.pub.
      keys: a folder with ca.pem, helpers.pub, server.key and server.pem.
      run: the run's name, from orchestrator.run.identity.run_digest.
      wait_s: how long a list waits for a helper that is away, in seconds.

    Raises:
      NetworkError: one can't be reached.
    """
    if not addresses:
        return None
    remotes = [RemoteHelper(address, keys, number, wait_s) for number, address in enumerate(addresses, 1)]
    return Helpers(bytes.fromhex(run), read_helpers(keys), remotes)
