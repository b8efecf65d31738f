"""Reads the client data that TFF keeps in SQLite. docs/data_formats.md describes the tables."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

from models.errors import CorpusError
from models.text_sources import Message, Named, locate, parse_time, require_content


def read_tff_sqlite(source: str) -> Named:
    """Returns the examples of TFF's client data, of the split that FILE#SPLIT names."""
    path, split = locate(source)
    require_content(path)
    return path.name if split is None else f"{path.name}#{split}", _read_tff_sqlite(path, split)


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

    def joined(name: str) -> Optional[str]:
        values = fields[name].bytes_list.value if name in fields else ()
        try:
            return " ".join(value.decode() for value in values) if values else None
        except UnicodeDecodeError as error:
            raise CorpusError(f"{where}: '{name}' is not UTF-8: write the file again in UTF-8") from error

    tokens = joined("tokens")  # Stack Overflow: a text, or a list of words
    text = tokens if tokens is not None else joined("snippets")  # Shakespeare
    if text is None:
        raise CorpusError(
            f"{where}: has no 'tokens' and no 'snippets' among its fields {sorted(fields)}: "
            "write the text under one of these names"
        )
    created = joined("creation_date")
    try:
        return Message(str(client_id), text, None if created is None else parse_time(created))
    except ValueError as error:
        raise CorpusError(f"{where}: creation_date {error}") from error
