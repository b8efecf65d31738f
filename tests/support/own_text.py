"""Writes people's texts as files, and reads what became of them."""

import json


def sentences_of(corpus):
    return {client_id: text.sentences for client_id, text in corpus.clients.items()}


def write_lines(path, *rows):
    path.write_text(
        "".join((row if isinstance(row, str) else json.dumps(row, ensure_ascii=False)) + "\n" for row in rows),
        encoding="utf-8",
    )
    return str(path)
