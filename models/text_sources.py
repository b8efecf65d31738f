"""Returns what people typed from where it lies: the built-in chat, JSON Lines, text files, TFF's SQLite data.

The formats are told in docs/data_formats.md. Every error names the file, the place in it and what to do.
"""

from __future__ import annotations

import contextlib
import importlib.resources
import sqlite3
from collections.abc import Iterable, Iterator
from datetime import datetime, timezone
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple, Optional, Union

import msgspec

from models.errors import CorpusError
from models.tokeniser import scrub, split_sentences, tokenise

BUILT_IN = "chitchat"
ACCEPTED = (
    f"give '{BUILT_IN}', FILE.jsonl, a folder with one .txt file per person, "
    "or TFF client data as FILE.sqlite or FILE.sqlite#SPLIT"
)
_REINSTALL = "install it again: pip install --force-reinstall chitchat-dataset==0.9.0"


class Message(NamedTuple):
    """What one person typed at one time. timestamp: seconds since the epoch (UTC), or None if unknown."""

    client_id: str
    text: str
    timestamp: Optional[float]


Columns = tuple[tuple[str, ...], tuple[Optional[float], ...]]  # a person's sentences and their timestamps


def read_columns(messages: Iterable[Message]) -> dict[str, Columns]:
    """Returns {client id: (sentences, timestamps)}, tokenised; people without a word have empty ones.

    A person's sentences are in time order if each of their messages has a timestamp, else in the order given.
    """
    said: dict[str, list[Message]] = {}
    for message in messages:
        sentences = said.setdefault(message.client_id, [])
        for words in split_sentences(message.text):
            sentences.append(message._replace(text=" ".join(words)))
    for sentences in said.values():
        if all(sentence.timestamp is not None for sentence in sentences):
            sentences.sort(key=_time)
    return {
        client_id: (tuple(sentence.text for sentence in sentences), tuple(s.timestamp for s in sentences))
        for client_id, sentences in said.items()
    }


def _time(message: Message) -> float:
    return message.timestamp or 0.0


def open_source(source: str) -> tuple[str, Iterator[Message]]:
    """Returns (name, scrubbed messages) of the user's own files; source is as `ACCEPTED` says.

    Raises: CorpusError, at once for a missing or unknown source, while reading for what is wrong inside;
    OSError for what can't be opened.
    """
    path, split = Path(source).expanduser(), None
    if not path.exists() and path.with_name(path.name.partition("#")[0] or "#").is_file():
        file_name, _, split = path.name.partition("#")
        path = path.with_name(file_name)
    if not source or not path.exists():
        raise CorpusError(f"data source '{source}': no such file or folder; {ACCEPTED}")
    suffix = path.suffix.lower()
    if path.is_dir():
        return path.resolve().name, _scrubbed(_read_text_folder(path))
    if suffix in (".lzma", ".xz"):
        raise CorpusError(f"{path}: is compressed; decompress it first: xz --decompress --keep '{path}'")
    if suffix not in (".jsonl", ".json", ".sqlite", ".db"):
        raise CorpusError(f"{path}: unknown kind of file '{suffix}'; {ACCEPTED}")
    if path.stat().st_size == 0:
        raise CorpusError(f"{path}: is empty; {ACCEPTED}")
    if suffix in (".sqlite", ".db"):
        name = path.name if split is None else f"{path.name}#{split}"
        return name, _scrubbed(_read_tff_sqlite(path, split))
    if split is not None:
        raise CorpusError(
            f"data source '{source}': '#{split}' picks a split of an SQLite file, and {path.name} is none"
        )
    return path.name, _scrubbed(_read_json_lines(path))


def _scrubbed(messages: Iterator[Message]) -> Iterator[Message]:
    return (message._replace(text=scrub(message.text)) for message in messages)


# --- text files ---


def _read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yields (line number from 1, line) of a UTF-8 file."""
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                byte = line[error.start]
                raise CorpusError(
                    f"{path}, line {number}: not UTF-8 (byte 0x{byte:02x} at position "
                    f"{error.start + 1}); save the file as UTF-8"
                ) from error
            yield number, text


def _read_text_folder(folder: Path) -> Iterator[Message]:
    """Yields each line of each *.txt file, files by name; the name without .txt is the person."""
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() == ".txt" and path.is_file())
    if not files:
        raise CorpusError(f"{folder}: holds no .txt file; put one in for each person, named after the person")
    for path in files:
        if path.stem.encode(errors="ignore").decode() != path.stem:  # Python gives such bytes as surrogates
            raise CorpusError(f"{folder}: the file name {path.name!a} is not UTF-8; rename the file")
        yield Message(path.stem, "", None)  # so that an empty file counts as a person without words
        for _, line in _read_lines(path):
            yield Message(path.stem, line, None)


class _Line(msgspec.Struct):
    client_id: str
    text: str
    timestamp: Union[float, str, None] = None


def _read_json_lines(path: Path) -> Iterator[Message]:
    decoder = msgspec.json.Decoder(_Line)
    for number, line in _read_lines(path):
        if not line.strip():
            continue
        try:
            row = decoder.decode(line.strip())
            if not row.client_id:
                raise ValueError("Expected a name, got '' - at `$.client_id`")
            timestamp = parse_time(row.timestamp) if isinstance(row.timestamp, str) else row.timestamp
        except (ValueError, msgspec.MsgspecError, RecursionError) as error:
            raise CorpusError(
                f"{path}, line {number}: {error}; each line must be like "
                '{"client_id": "ann", "text": "see you", "timestamp": 1524074400}'
            ) from error
        yield Message(row.client_id, row.text, timestamp)


def parse_time(text: str) -> float:
    """Returns seconds since the epoch of an ISO 8601 time; one without a zone is taken as UTC.

    Raises: ValueError if it is no such time.

    >>> parse_time("2018-05-02T19:38:15Z") == parse_time("2018-05-02 19:38:15 UTC") == 1525289895
    True
    """
    iso = text.strip()
    iso = iso[:-4] + "Z" if iso.endswith(" UTC") else iso  # as TFF's Stack Overflow set writes it
    iso = iso + "T00:00:00Z" if len(iso) == len("2018-05-02") else iso
    try:
        moment = msgspec.convert(iso, datetime)  # as strict on Python 3.9, whose fromisoformat knows no "Z"
    except msgspec.ValidationError as error:
        raise ValueError(f"'{text}' is no ISO 8601 time - at `$.timestamp`") from error
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()


# --- TFF's SQLite client data ---


def _read_tff_sqlite(path: Path, split: Optional[str]) -> Iterator[Message]:
    """Yields a split's examples in the file's order. split: None means "train", or all if there is none."""
    try:
        # Read-only, or SQLite would make the file when it is not there.
        with contextlib.closing(sqlite3.connect(path.resolve().as_uri() + "?mode=ro", uri=True)) as database:
            columns = {row[1] for row in database.execute("PRAGMA table_info(examples)")}
            missing = {"split_name", "client_id", "serialized_example_proto"} - columns
            if missing:
                raise CorpusError(
                    f"{path}: is not TFF client data: its table 'examples' lacks "
                    f"{', '.join(sorted(missing))}; write it with tff.simulation.datasets."
                    "save_to_sql_client_data"
                )
            names = database.execute("SELECT DISTINCT split_name FROM client_metadata")
            splits = sorted(name for (name,) in names)
            if split is not None and split not in splits:
                raise CorpusError(f"{path}: has no split '{split}'; it has {', '.join(splits) or 'none'}")
            chosen = split or ("train" if "train" in splits else None)
            rows = database.execute(
                "SELECT rowid, client_id, serialized_example_proto FROM examples "
                "WHERE ?1 IS NULL OR split_name = ?1 ORDER BY rowid",
                (chosen,),
            )
            for row_number, client_id, proto in rows:
                yield _parse_example(f"{path}, table examples, row {row_number}", client_id, proto)
    except sqlite3.Error as error:
        raise CorpusError(f"{path}: is not a sound SQLite file ({error}): fetch or write it again") from error


def _parse_example(where: str, client_id: object, proto: bytes) -> Message:
    import tensorflow as tf  # seconds to import: only those who read such files pay for it
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        fields = tf.train.Example.FromString(proto).features.feature
    except (DecodeError, TypeError) as error:
        raise CorpusError(f"{where}: is no serialized tf.train.Example: write the file again") from error

    def first(name: str) -> Optional[str]:
        values = fields[name].bytes_list.value if name in fields else ()
        try:
            return values[0].decode() if values else None
        except UnicodeDecodeError as error:
            raise CorpusError(f"{where}: '{name}' is not UTF-8: write the file again in UTF-8") from error

    tokens = first("tokens")  # Stack Overflow
    text = tokens if tokens is not None else first("snippets")  # Shakespeare
    if text is None:
        raise CorpusError(
            f"{where}: has no 'tokens' and no 'snippets' among its fields {sorted(fields)}: "
            "write the text under one of these names"
        )
    created = first("creation_date")
    try:
        return Message(str(client_id), text, None if created is None else parse_time(created))
    except ValueError as error:
        raise CorpusError(f"{where}: creation_date {error}") from error


# --- the built-in text ---


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


def clean_chitchat(dataset: bytes) -> dict[str, Columns]:
    """Returns {client id: (sentences, timestamps)} of the chat, scrubbed, without score farming and repeats.

    Raises: CorpusError if `dataset` is not what the package ships.
    """
    try:
        conversations = msgspec.json.decode(dataset, type=dict[str, _Conversation])
        turns = (turn for conversation in conversations.values() for turn in conversation.messages)
        messages = [
            Message(said.sender, scrub(said.text), parse_time(said.timestamp)) for turn in turns for said in turn
        ]
    except (ValueError, msgspec.MsgspecError) as error:
        raise CorpusError(f"the package chitchat-dataset is damaged ({error}); {_REINSTALL}") from error
    messages.sort(key=_time)  # stable: equal times stay in the file's order
    seen: dict[str, set[str]] = {}
    kept = []
    for message in messages:
        words = tokenise(message.text)
        pasted = seen.setdefault(message.client_id, set())
        if _is_farming(words) or (len(words) >= 5 and " ".join(words) in pasted):
            continue
        pasted.add(" ".join(words))
        kept.append(message)
    columns = read_columns(kept)
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
