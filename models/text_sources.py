"""Reads what people typed from where it lies: JSON Lines and text files.

docs/data_formats.md describes the formats. Every error names the file, the place in it and what to do. What reads a
data source raises CorpusError at once or while its messages are taken, and OSError for what can't be opened.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import NamedTuple, Optional, Union

import msgspec

from models.errors import CorpusError
from models.tokeniser import Tokeniser


class Message(NamedTuple):
    """What one person typed at one time. timestamp: seconds since the epoch (UTC), or None if unknown."""

    client_id: str
    text: str
    timestamp: Optional[float]


Columns = tuple[tuple[str, ...], tuple[Optional[float], ...]]  # a person's sentences and their timestamps


def read_columns(messages: Iterable[Message], tokeniser: Tokeniser) -> dict[str, Columns]:
    """Returns {client id: (sentences, timestamps)}, scrubbed and tokenised; people without a word have empty ones.

    A person's sentences are in time order if each of their messages has a timestamp, else in the order given.
    """
    said: dict[str, list[Message]] = {}
    for message in messages:
        sentences = said.setdefault(message.client_id, [])
        for words in tokeniser.sentences(message.text):
            sentences.append(message._replace(text=" ".join(words)))
    for sentences in said.values():
        if all(sentence.timestamp is not None for sentence in sentences):
            sentences.sort(key=time_of)
    return {
        client_id: (tuple(sentence.text for sentence in sentences), tuple(s.timestamp for s in sentences))
        for client_id, sentences in said.items()
    }


def time_of(message: Message) -> float:
    """Returns the time to sort a message by; 0 if it is unknown."""
    return message.timestamp or 0.0


# Compressed text that is refused by name: what a file begins with, its kind, what unpacks it. gzip is read.
_PACKED = {
    b"\xfd7zXZ\x00": ("xz", "xz --decompress --keep"),
    b"]\x00\x00": ("lzma", "xz --decompress --keep"),
    b"BZh": ("bzip2", "bunzip2 --keep"),
    b"PK\x03\x04": ("zip", "unzip"),
    b"\x28\xb5\x2f\xfd": ("zstd", "zstd --decompress"),
}
COMPRESSED = {  # by the end of a file's name
    ".xz": "xz --decompress --keep",
    ".lzma": "xz --decompress --keep",
    ".bz2": "bunzip2 --keep",
    ".zip": "unzip",
    ".zst": "zstd --decompress",
    ".gz": "gunzip --keep",
}
_CHAT_LINE = re.compile(
    r"[\u200e\u200f]?\[?\d{1,4}[./-]\d{1,2}[./-]\d{1,4},?\s{1,3}(?:at )?"
    r"\d{1,2}[:.]\d{2}[^\]:-]{0,12}(?::\d{2}[^\]:-]{0,12})?"
    r"(?:\]| -) ?(?P<who>[^:\n]{1,60}):\s"
)

Named = tuple[str, Iterator[Message]]  # the text's name, and what was typed


def locate(source: str) -> tuple[Path, Optional[str]]:
    """Returns (path, split) of a data source; split: what follows "#", unless a file has it in its name.

    >>> locate("so.sqlite")
    (PosixPath('so.sqlite'), None)
    """
    if source.encode(errors="ignore").decode() != source:  # Python gives bytes that are no UTF-8 as surrogates
        raise CorpusError(f"data source {source!a}: the path is not UTF-8; rename the folder or the file")
    path = Path(source).expanduser()
    if not path.exists() and path.with_name(path.name.partition("#")[0] or "#").is_file():
        file_name, _, split = path.name.partition("#")
        return path.with_name(file_name), split
    return path, None


def is_file_with(*suffixes: str) -> Callable[[str], bool]:
    """Returns a check whether a data source is a file whose name ends in one of the suffixes."""

    def matches(source: str) -> bool:
        path, _ = locate(source)
        return path.is_file() and path.suffix.lower() in suffixes

    return matches


def is_json_lines(source: str) -> bool:
    """Returns whether a data source is a file of JSON Lines by its name, plain or gzipped, or a pipe."""
    path, _ = locate(source)
    name = path.name.lower()
    return path.is_fifo() or (path.is_file() and name.removesuffix(".gz").endswith((".jsonl", ".ndjson", ".json")))


def is_folder(source: str) -> bool:
    """Returns whether a data source is a folder; the empty text is none."""
    return bool(source) and locate(source)[0].is_dir()


def read_text_folder(source: str) -> Named:
    """Returns each line of each *.txt file of a folder; a file's name without .txt is the person."""
    path, _ = locate(source)
    return path.resolve().name, _read_text_folder(path)


def read_json_lines(source: str) -> Named:
    """Returns a message a line, like {"client_id": "ann", "text": "see you", "timestamp": 1524074400}."""
    path, split = locate(source)
    if not path.is_fifo():
        require_content(path)
    if split is not None:
        raise CorpusError(
            f"data source '{source}': '#{split}' picks a split of an SQLite file, and {path.name} is none"
        )
    return path.name, _messages_of(path, _read_lines(path, path.read_bytes()))


def require_content(path: Path) -> None:
    """Raises CorpusError for an empty file."""
    if path.stat().st_size == 0:
        raise CorpusError(f"{path}: is empty; put the text into it, or name another file")


# --- text files ---


def _unpacked(path: Path, content: bytes) -> bytes:
    """Returns a file's content, unpacked if it is gzipped.

    Raises: CorpusError for a damaged or another compressed file.
    """
    if content.startswith(b"\x1f\x8b"):
        try:
            return gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise CorpusError(f"{path}: is a damaged gzip file ({error}); fetch or compress it again") from error
    for magic, (kind, command) in _PACKED.items():
        if content.startswith(magic):
            raise CorpusError(f"{path}: is compressed ({kind}); decompress it first: {command} '{path}'")
    return content


def _read_lines(path: Path, content: bytes) -> Iterator[tuple[int, str]]:
    """Yields (line number from 1, line) of a file of UTF-8 text; a line ends with LF, CR LF, or CR as on old Macs."""
    for number, line in enumerate(re.split(rb"\r\n|\n|\r", _unpacked(path, content)), 1):
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
    # Hidden files are no people: macOS leaves ._NAME beside each file on foreign disks and in archives.
    names = (path for path in folder.iterdir() if not path.name.startswith("."))
    files = sorted(path for path in names if path.suffix.lower() == ".txt" and path.is_file())
    if not files:
        raise CorpusError(f"{folder}: holds no .txt file; put one in for each person, named after the person")
    for path in files:
        if path.stem.encode(errors="ignore").decode() != path.stem:  # Python gives such bytes as surrogates
            raise CorpusError(f"{folder}: the file name {path.name!a} is not UTF-8; rename the file")
        yield Message(path.stem, "", None)  # so that an empty file counts as a person without words
        lines = [line for _, line in _read_lines(path, path.read_bytes())]
        require_no_chat(path, lines)
        for line in lines:
            yield Message(path.stem, line, None)


def names_in_chat(lines: Iterable[str]) -> list[str]:
    """Returns who wrote in an exported chat, in the order of their first lines; nobody if the lines are no such chat.

    At least half of a chat's lines begin with a time and a name, as WhatsApp, Telegram and Signal write them.

    >>> names_in_chat(["02.05.18, 19:38 - Ann: see you", "02.05.18, 19:39 - Bob: ok", "and then", "ok"])
    ['Ann', 'Bob']
    >>> names_in_chat(["10:30: see you", "ok"])
    []
    """
    typed = [line for line in lines if line.strip()]
    heads = [match["who"] for match in map(_CHAT_LINE.match, typed) if match]
    return list(dict.fromkeys(heads)) if len(heads) >= 2 and 2 * len(heads) >= len(typed) else []


def require_no_chat(path: Path, lines: Iterable[str]) -> None:
    """Checks that text is not a chat of several people, as WhatsApp, Telegram and Signal export them.

    Raises: CorpusError if at least half of its lines begin with a time and a name.
    """
    names = names_in_chat(lines)
    if names:
        raise CorpusError(
            f"{path}: is an exported chat of {len(names)} people, each line with a time and a name, and not the "
            'text of one person; write each message as {"client_id": WHO, "text": ...} into a FILE.jsonl'
        )


def read_own_messages(path: Path, content: Optional[bytes] = None) -> list[str]:
    """Returns what the one person typed whose text a file holds: a message a line, or JSON Lines of one client_id.

    Args:
      path: a file or a pipe.
      content: what it holds, if it was read before; a pipe is read once.

    Raises: CorpusError if the file can't be read as that.
    """
    numbered = list(_read_lines(path, path.read_bytes() if content is None else content))
    lines = [line for _, line in numbered]
    first = next((line.strip() for line in lines if line.strip()), "")
    if first.startswith("{") and first.endswith("}"):
        messages = list(_messages_of(path, numbered))
        people = {message.client_id for message in messages}
        if len(people) != 1:
            raise CorpusError(f"{path}: holds the text of {len(people)} people; give a file with the text of one")
        return [message.text for message in messages]
    require_no_chat(path, lines)
    return lines


class _Line(msgspec.Struct):
    client_id: str
    text: str
    timestamp: Union[float, str, None] = None


def _messages_of(path: Path, numbered: Iterable[tuple[int, str]]) -> Iterator[Message]:
    """Yields the messages of JSON Lines, given as (line number, line)."""
    decoder = msgspec.json.Decoder(_Line)
    for number, line in numbered:
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
