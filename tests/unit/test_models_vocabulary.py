"""Words and their ids: built, encoded, cut, written and read."""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import VocabularyError
from models.vocabulary import NUM_SPECIAL, SPECIAL_WORDS, UNK, Vocabulary, build_vocabulary


def test_the_most_frequent_words_come_first_and_ties_go_by_the_alphabet():
    vocabulary = build_vocabulary([["b a b", "да"], ["a c", "да нет"]])
    assert vocabulary.words == SPECIAL_WORDS + ("a", "b", "да", "c", "нет")
    assert vocabulary.size == 9


def test_the_size_counts_the_special_words():
    vocabulary = build_vocabulary([[f"w{number}" for number in range(50)]], size=10)
    assert vocabulary.size == len(vocabulary.words) == 10


@given(st.lists(st.lists(st.text("abc ", min_size=1)), max_size=4).map(lambda people: people + [["a"]]))
def test_the_order_of_people_does_not_matter(people):
    assert build_vocabulary(people) == build_vocabulary(reversed(people))


def test_encode_gives_int32_and_unk_for_the_rest():
    vocabulary = build_vocabulary([["see you", "see"]])
    ids = vocabulary.encode("see you soon see")
    assert ids.dtype == np.int32
    assert ids.tolist() == [4, 5, UNK, 4]
    assert vocabulary.encode("").shape == (0,)


@pytest.mark.parametrize("special", SPECIAL_WORDS)
def test_a_special_word_in_the_text_is_an_unknown_word(special):
    assert build_vocabulary([["see"]]).encode(special).tolist() == [UNK]


@pytest.mark.parametrize("people", [[], [[]], [["", " "]]])
def test_no_words_make_no_vocabulary(people):
    with pytest.raises(VocabularyError, match="no words to make a vocabulary of"):
        build_vocabulary(people)


def test_a_size_that_leaves_no_word():
    with pytest.raises(ValueError, match="size=4"):
        build_vocabulary([["see"]], size=NUM_SPECIAL)


def test_truncate_keeps_the_first():
    vocabulary = build_vocabulary([["a a a b b c"]])
    assert vocabulary.truncate(6).words == SPECIAL_WORDS + ("a", "b")
    assert vocabulary.truncate(7) == vocabulary
    for size in (4, 8):
        with pytest.raises(ValueError, match=f"size={size}"):
            vocabulary.truncate(size)


def test_what_is_written_is_read_and_digested(tmp_path):
    path = tmp_path / "vocabulary.txt"
    vocabulary = build_vocabulary([["see you", "да нет don't"]])
    vocabulary.write(path)
    assert path.read_bytes().startswith(b"<pad>\n<bos>\n<eos>\n<unk>\ndon't\n")
    assert Vocabulary.read(path) == vocabulary
    assert vocabulary.digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert [file.name for file in tmp_path.iterdir()] == ["vocabulary.txt"]


SPECIAL_LINES = b"<pad>\n<bos>\n<eos>\n<unk>\n"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "can't be read: No such file"),
        (b"", "is empty"),
        (SPECIAL_LINES + b"see\nyo", "is cut off"),
        (SPECIAL_LINES, "more than the 4 special ones"),
        (b"see\nyou\n", "must begin with <pad> <bos> <eos> <unk>"),
        (b"<pad>\n<eos>\n<bos>\n<unk>\nsee\n", "must begin with <pad> <bos> <eos> <unk>"),
        (SPECIAL_LINES + b"see\nyou\nsee\n", "'see' 2 times"),
        (SPECIAL_LINES + b"<pad>\n", "'<pad>' 2 times"),
        (SPECIAL_LINES + b"see\n\nyou\n", "'' as id 5"),
        (SPECIAL_LINES + b"see you\n", "'see you' as id 4"),
        (SPECIAL_LINES.replace(b"\n", b"\r\n") + b"see\r\n", "must begin with"),
        (SPECIAL_LINES + b"\xff\n", "can't decode byte 0xff"),
    ],
)
def test_a_bad_file_is_refused_by_name(tmp_path, content, problem):
    path = tmp_path / "vocabulary.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(VocabularyError) as error:
        Vocabulary.read(path)
    assert str(path) in str(error.value)
    assert problem in str(error.value)
    assert "\n" not in str(error.value)
