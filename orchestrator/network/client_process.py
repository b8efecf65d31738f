"""Runs one client in a separate process: its keys, its journal and its connection around a Participant."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Optional

from models.corpus import ClientId
from models.weights import ModelSize
from orchestrator.network.certificates import read_decryptor, read_identity
from orchestrator.network.channel import DEFAULT_PATIENCE_S, Link, check_server, open_channel
from orchestrator.network.client import Participant
from orchestrator.network.demands import Demands
from orchestrator.network.errors import ServerGone
from orchestrator.network.journal import Journal
from orchestrator.network.own_keys import read_own_helpers, read_own_roster
from orchestrator.network.own_text import read_own_sentences
from orchestrator.network.pace import Pace
from orchestrator.network.tls import Tls
from orchestrator.settings.run_config import RunConfig

if TYPE_CHECKING:
    from models.local_training import Trainer


def run_client(
    server: str,
    keys: Path,
    client_id: str,
    source: str,
    demands: Demands,
    wait_s: float,
    pace: Pace,
    patience_s: float = DEFAULT_PATIENCE_S,
    state: Optional[Path] = None,
    note: Callable[[str], None] = lambda _: None,
    build_trainer: Optional[Callable[[RunConfig, ModelSize], Trainer]] = None,
) -> str:
    """Takes part in a server's rounds until it says goodbye, and returns its reason.

    Args:
      server: HOST:PORT.
      keys: a folder with ca.pem, operator.pub, roster.json, clients/ID.key and tls/ID.*.
      client_id: the client's name on the roster.
      source: the client's text; see read_own_sentences.
      demands: what the client insists on, whatever the server says.
      wait_s: how long to retry while nobody listens there, in seconds.
      pace: when the answers leave that depend on the text.
      patience_s: how long to wait for a message of the server, in seconds.
      state: the file of the client's journal; None takes state/ID.json in the folder of keys.
      note: called with a line that says whose roster it is.
      build_trainer: builds the trainer; None takes TensorFlow's.

    Raises:
      NetworkError: a key is missing, the roster is not the operator's newest, or the connection fails or ends.
      CorpusError: the text can't be read.
      SecAggError, HomomorphicError, SplitError: the server asks for something that could expose the client.
    """
    identity, tls = read_identity(keys, client_id), Tls.of_client(keys, client_id)
    sentences = read_own_sentences(source, client_id)
    with closing(Journal(state or keys / "state" / f"{client_id}.json")) as journal:
        roster = read_own_roster(keys, client_id, identity, journal, note)
        participant = Participant(
            ClientId(client_id),
            identity,
            frozenset(roster.clients.values()),
            demands,
            sentences,
            journal,
            pace,
            read_decryptor(keys),
            build_trainer,
            helpers=read_own_helpers(keys, roster) if demands.aggregator == "split" else (),
        )
        check_server(server, tls, wait_s)
        with open_channel(server, tls) as channel, Link(channel, server, client_id, identity, patience_s) as link:
            for message in link:
                answer = participant.answer(message)
                if participant.goodbye is not None:
                    return participant.goodbye
                if answer is not None:
                    link.send(answer)
    raise ServerGone(f"the server at {server} ended without a goodbye: look at its output")
