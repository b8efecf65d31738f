"""What a long text became is kept for the next start, and only for who has the text."""

from __future__ import annotations

import dataclasses
import errno
import os
import threading
from pathlib import Path

import pytest

from models import text_cache
from models.text_cache import read_kept_columns
from models.text_sources import Message, read_columns
from models.tokeniser import LATEST, Tokeniser

SOURCE = "people.jsonl"
MESSAGES = [Message("ann", "See you at TEN! ok", 2.0), Message("bob", "wonderful", None), Message("cat", "", None)]


@pytest.fixture(autouse=True)
def _every_text_is_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_cache, "_WORTH_KEEPING", 1)


@pytest.fixture
def idle() -> Tokeniser:
    """The tokeniser of the others by its name, with which no message can be split."""

    def refuse(message: str) -> str:
        raise AssertionError(f"{message!r} is split again")

    return dataclasses.replace(LATEST, prepare=refuse)


def kept_file(cache: Path) -> Path:
    (path,) = (cache / "texts").iterdir()
    return path


def test_the_second_start_splits_nothing_and_finds_the_same(tmp_path: Path, idle: Tokeniser) -> None:
    first = read_kept_columns(SOURCE, MESSAGES, LATEST, tmp_path)
    assert first == read_columns(MESSAGES, LATEST)
    assert read_kept_columns(SOURCE, MESSAGES, idle, tmp_path) == first
    with pytest.raises(AssertionError, match="split again"):
        read_kept_columns(SOURCE, MESSAGES, idle, None)


def test_order_types_and_times_are_those_of_the_text(tmp_path: Path, idle: Tokeniser) -> None:
    read_kept_columns(SOURCE, MESSAGES, LATEST, tmp_path)
    again = read_kept_columns(SOURCE, MESSAGES, idle, tmp_path)
    assert list(again) == ["ann", "bob", "cat"]
    assert again["ann"] == (("see you at ten", "ok"), (2.0, 2.0))
    assert again["cat"] == ((), ())


@pytest.mark.parametrize(
    "other",
    [
        [*MESSAGES, Message("ann", "bye", 3.0)],
        [MESSAGES[1], MESSAGES[0], MESSAGES[2]],
        [MESSAGES[0]._replace(timestamp=1.0), *MESSAGES[1:]],
        [MESSAGES[0]._replace(client_id="anna"), *MESSAGES[1:]],
    ],
)
def test_a_changed_text_is_split_and_takes_the_place_of_the_old(tmp_path: Path, other: list[Message]) -> None:
    read_kept_columns(SOURCE, MESSAGES, LATEST, tmp_path)
    before = kept_file(tmp_path).read_bytes()
    assert read_kept_columns(SOURCE, other, LATEST, tmp_path) == read_columns(other, LATEST)
    assert kept_file(tmp_path).read_bytes() != before


def test_another_tokeniser_has_another_file(tmp_path: Path, idle: Tokeniser) -> None:
    read_kept_columns(SOURCE, MESSAGES, LATEST, tmp_path)
    with pytest.raises(AssertionError, match="split again"):
        read_kept_columns(SOURCE, MESSAGES, dataclasses.replace(idle, version=1), tmp_path)


def test_the_file_tells_nothing_and_is_its_owners(tmp_path: Path) -> None:
    read_kept_columns(SOURCE, MESSAGES, LATEST, tmp_path)
    path = kept_file(tmp_path)
    content = path.read_bytes()
    assert not any(word in content for word in (b"ann", b"wonderful", b"people"))
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("length", [0, 5, 40])
def test_a_file_that_was_cut_off_is_made_anew(tmp_path: Path, length: int, idle: Tokeniser) -> None:
    expected = read_kept_columns(SOURCE, MESSAGES, LATEST, tmp_path)
    path = kept_file(tmp_path)
    path.write_bytes(path.read_bytes()[:length])
    assert read_kept_columns(SOURCE, MESSAGES, LATEST, tmp_path) == expected
    assert read_kept_columns(SOURCE, MESSAGES, idle, tmp_path) == expected


def test_a_changed_byte_is_noticed(tmp_path: Path, idle: Tokeniser) -> None:
    read_kept_columns(SOURCE, MESSAGES, LATEST, tmp_path)
    path = kept_file(tmp_path)
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)
    with pytest.raises(AssertionError, match="split again"):
        read_kept_columns(SOURCE, MESSAGES, idle, tmp_path)


@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_a_file_that_others_can_write_is_not_trusted(tmp_path: Path, mode: int, idle: Tokeniser) -> None:
    read_kept_columns(SOURCE, MESSAGES, LATEST, tmp_path)
    kept_file(tmp_path).chmod(mode)
    with pytest.raises(AssertionError, match="split again"):
        read_kept_columns(SOURCE, MESSAGES, idle, tmp_path)


def test_a_file_of_somebody_else_is_not_trusted(
    tmp_path: Path, idle: Tokeniser, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_kept_columns(SOURCE, MESSAGES, LATEST, tmp_path)
    somebody = os.geteuid() + 1
    monkeypatch.setattr(text_cache.os, "geteuid", lambda: somebody)
    with pytest.raises(AssertionError, match="split again"):
        read_kept_columns(SOURCE, MESSAGES, idle, tmp_path)


def test_a_short_text_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_cache, "_WORTH_KEEPING", 28)  # the text has 27 characters
    assert read_kept_columns(SOURCE, MESSAGES, LATEST, tmp_path) == read_columns(MESSAGES, LATEST)
    assert not (tmp_path / "texts").exists()


def stop(*args: object, **more: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(
    ("name", "value"),
    [("_WORTH_KEEPING", 28), ("_MOST_BYTES", 1), ("write_atomically", stop)],
    ids=["short", "too long", "disk full"],
)
def test_nothing_stays_of_a_text_that_was_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: object
) -> None:
    """A message of it may have been deleted, and who has the rest could guess it."""
    read_kept_columns(SOURCE, [*MESSAGES, Message("ann", "a secret", 3.0)], LATEST, tmp_path)
    monkeypatch.setattr(text_cache, name, value)
    assert read_kept_columns(SOURCE, MESSAGES, LATEST, tmp_path) == read_columns(MESSAGES, LATEST)
    assert list((tmp_path / "texts").iterdir()) == []


def test_it_is_gone_before_the_text_is_split(tmp_path: Path, idle: Tokeniser) -> None:
    read_kept_columns(SOURCE, MESSAGES, LATEST, tmp_path)
    with pytest.raises(AssertionError, match="split again"):
        read_kept_columns(SOURCE, MESSAGES[:1], idle, tmp_path)
    assert list((tmp_path / "texts").iterdir()) == []


def test_a_pipe_in_the_file_s_place_is_not_waited_for(tmp_path: Path) -> None:
    read_kept_columns(SOURCE, MESSAGES, LATEST, tmp_path)
    path = kept_file(tmp_path)
    path.unlink()
    os.mkfifo(path)
    reader = threading.Thread(target=text_cache._read, args=(path, b"0" * 32), daemon=True)
    reader.start()
    reader.join(10)
    assert not reader.is_alive()  # nobody writes into it
    end = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    os.write(end, b"0" * 64)
    try:
        assert text_cache._read(path, b"0" * 32) is None
        assert os.read(end, 64) == b"0" * 64  # nothing was read of it
    finally:
        os.close(end)


def test_a_folder_that_cannot_be_written_costs_time_only(tmp_path: Path) -> None:
    (tmp_path / "texts").write_text("a file")
    assert read_kept_columns(SOURCE, MESSAGES, LATEST, tmp_path) == read_columns(MESSAGES, LATEST)
