"""Words and their ids: built, encoded, cut, written and read."""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import VocabularyError
from models.public_words import PublicList
from models.vocabulary import (
    FEDERATED,
    FILE,
    NUM_SPECIAL,
    POOLED,
    PUBLIC,
    SPECIAL_WORDS,
    UNK,
    Vocabulary,
    WordOrigin,
    build_vocabulary,
)


def test_the_most_frequent_words_come_first_and_ties_go_by_the_alphabet():
    vocabulary = build_vocabulary([["b a b", "да"], ["a c", "да нет"]]).vocabulary
    assert vocabulary.words == SPECIAL_WORDS + ("a", "b", "да", "c", "нет")
    assert vocabulary.size == 9


def test_the_size_counts_the_special_words():
    vocabulary = build_vocabulary([[f"w{number}" for number in range(50)]], size=10).vocabulary
    assert vocabulary.size == len(vocabulary.words) == 10


@given(st.lists(st.lists(st.text("abc ", min_size=1)), max_size=4).map(lambda people: people + [["a"]]))
def test_the_order_of_people_does_not_matter(people):
    assert build_vocabulary(people) == build_vocabulary(reversed(people))


def test_encode_gives_int32_and_unk_for_the_rest():
    vocabulary = build_vocabulary([["see you", "see"]]).vocabulary
    ids = vocabulary.encode("see you soon see")
    assert ids.dtype == np.int32
    assert ids.tolist() == [4, 5, UNK, 4]
    assert vocabulary.encode("").shape == (0,)


@pytest.mark.parametrize("special", SPECIAL_WORDS)
def test_a_special_word_in_the_text_is_an_unknown_word(special):
    assert build_vocabulary([["see"]]).vocabulary.encode(special).tolist() == [UNK]


@pytest.mark.parametrize("people", [[], [[]], [["", " "]]])
def test_no_words_make_no_vocabulary(people):
    with pytest.raises(VocabularyError, match="no words to make a vocabulary of"):
        build_vocabulary(people)


def test_a_size_that_leaves_no_word():
    with pytest.raises(ValueError, match="size=4"):
        build_vocabulary([["see"]], size=NUM_SPECIAL)


def test_truncate_keeps_the_first():
    vocabulary = build_vocabulary([["a a a b b c"]]).vocabulary
    assert vocabulary.truncate(6).words == SPECIAL_WORDS + ("a", "b")
    assert vocabulary.truncate(7) == vocabulary
    for size in (4, 8):
        with pytest.raises(ValueError, match=f"size={size}"):
            vocabulary.truncate(size)


def test_what_is_written_is_read_and_digested(tmp_path):
    path = tmp_path / "vocabulary.txt"
    vocabulary = build_vocabulary([["see you", "да нет don't"]]).vocabulary
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


def test_a_word_needs_as_many_people_as_asked_for_however_often_one_types_it():
    people = [["secret " * 100 + "see you"], ["see you"], ["see them"]]
    alone, two, three = (build_vocabulary(people, min_people=n) for n in (1, 2, 3))
    assert alone.vocabulary.words[NUM_SPECIAL:] == ("secret", "see", "you", "them")
    assert two.vocabulary.words[NUM_SPECIAL:] == ("see", "you")
    assert three.vocabulary.words[NUM_SPECIAL:] == ("see",)
    assert [built.origin.fewest_people for built in (alone, two, three)] == [1, 2, 3]


def test_the_smallest_count_is_of_the_words_that_are_in_the_list():
    people = [["see you"], ["see you"], ["see them"]]
    assert build_vocabulary(people, size=NUM_SPECIAL + 1).origin.fewest_people == 3  # see alone
    assert build_vocabulary(people, size=NUM_SPECIAL + 2).origin.fewest_people == 2


def test_the_public_list_fills_up_and_comes_last():
    public = PublicList("en", ("the", "see", "of", "and"))
    built = build_vocabulary([["see you"], ["see them"]], size=NUM_SPECIAL + 3, min_people=2, public=public)
    assert built.vocabulary.words[NUM_SPECIAL:] == ("see", "the", "of")
    assert built.origin == WordOrigin(POOLED, from_text=1, fewest_people=2, from_public=2, language="en")
    cut = built.truncate(NUM_SPECIAL + 2)
    assert cut.vocabulary.words[NUM_SPECIAL:] == ("see", "the")
    assert cut.origin == WordOrigin(POOLED, from_text=1, fewest_people=2, from_public=1, language="en")
    full = build_vocabulary([["see you"], ["see you"]], size=NUM_SPECIAL + 2, min_people=2, public=public)
    assert full.origin == WordOrigin(POOLED, from_text=2, fewest_people=2)


def test_nobody_shares_a_word_and_nothing_fills_up():
    with pytest.raises(VocabularyError, match="no words that 2 of them typed.*lower data.min_people"):
        build_vocabulary([["see"], ["you"]], min_people=2)


def test_a_list_says_what_it_gives_away():
    said = WordOrigin(POOLED, from_text=3649, fewest_people=10, from_public=6347, language="en").statement
    assert "(3,649 words) was typed by 10 training people or more; the other 6,347 are of the public list" in said
    assert "by one person alone" in WordOrigin(POOLED).statement
    assert "No word of the list comes from the text" in WordOrigin(PUBLIC, from_text=0, from_public=9).statement
    assert "noisy sums" in WordOrigin(FEDERATED, from_text=9).statement
    assert "nobody counted" in WordOrigin(FILE).statement
