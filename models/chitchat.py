"""Reads and cleans the built-in text, the chat of the package chitchat-dataset."""

from __future__ import annotations

import importlib.resources
from hashlib import sha256

import msgspec

from models.errors import CorpusError
from models.text_sources import Columns, Message, parse_time, read_columns, time_of
from models.tokeniser import Tokeniser

BUILT_IN = "chitchat"  # the data source that names it
_REINSTALL = "install it again: pip install --force-reinstall chitchat-dataset==0.9.0"


class _Said(msgspec.Struct):
    sender: str
    timestamp: str
    text: str


class _Conversation(msgspec.Struct):
    messages: list[list[_Said]]


def read_chitchat_bytes() -> bytes:
    """Returns the file dataset.json of the package chitchat-dataset, unparsed.

    Raises: CorpusError if the package is missing.
    """
    try:
        return importlib.resources.files("chitchat_dataset").joinpath("dataset.json").read_bytes()
    except (ModuleNotFoundError, OSError) as error:
        need = f"'{BUILT_IN}' needs the package chitchat-dataset ({error})"
        raise CorpusError(f"{need}; {_REINSTALL}") from error


def clean_chitchat(dataset: bytes, tokeniser: Tokeniser) -> dict[str, Columns]:
    """Returns {client id: (sentences, timestamps)} of the chat, scrubbed, without score farming and repeats.

    Raises: CorpusError if `dataset` is not what the package ships.
    """
    try:
        conversations = msgspec.json.decode(dataset, type=dict[str, _Conversation])
        turns = (turn for conversation in conversations.values() for turn in conversation.messages)
        messages = [Message(said.sender, said.text, parse_time(said.timestamp)) for turn in turns for said in turn]
    except (ValueError, msgspec.MsgspecError) as error:
        raise CorpusError(f"the package chitchat-dataset is damaged ({error}); {_REINSTALL}") from error
    messages.sort(key=time_of)  # stable: equal times stay in the file's order
    seen: dict[str, set[str]] = {}
    kept = []
    for message in messages:
        words = tokeniser.words(tokeniser.scrub(message.text))
        pasted = seen.setdefault(message.client_id, set())
        if _is_farming(words) or (len(words) >= 5 and " ".join(words) in pasted):
            continue
        pasted.add(" ".join(words))
        kept.append(message)
    columns = read_columns(kept, tokeniser)
    # Short ids, in the order of a hash: the same on every machine and telling nothing about who came first.
    order = sorted(columns, key=lambda sender: sha256(f"kbd{sender}".encode()).hexdigest())
    return {f"u{number:04d}": columns[sender] for number, sender in enumerate(order)}


def _is_farming(words: list[str]) -> bool:
    """Returns whether a message has no word, or was typed for the competition's score, like "a a a a"."""
    if not words or max(map(len, words)) > 22:
        return True
    if all(len(word) == 1 and word not in "iuk" for word in words):
        return True
    distinct = len(set(words))
    return (len(words) >= 4 and distinct == 1) or (len(words) >= 8 and distinct / len(words) < 0.3)
