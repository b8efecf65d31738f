"""The tree of prefixes, and what one client puts into it."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from orchestrator.errors import VocabularyDiscoveryError
from orchestrator.vocabulary.prefix_tree import END, LETTERS, Level, choose_nodes, nodes_of


def people_with_words(rng, num_people=30, num_words=60):
    """{person: Counter}, from words of one to nine letters, many of them each other's prefixes."""
    words = sorted({"".join(rng.choice(list("abc"), rng.integers(1, 10))) for _ in range(num_words)})
    share = rng.uniform(0, 1, len(words))
    return {
        f"p{i}": Counter({w: int(rng.integers(1, 9)) for w, s in zip(words, share) if rng.random() < s})
        for i in range(num_people)
    }


def test_a_client_changes_at_most_max_nodes_coordinates_by_one():
    """Over all levels, whatever is opened: also if everything is."""
    own = people_with_words(np.random.default_rng(2), num_people=1, num_words=80)["p0"]
    for max_nodes in (1, 7, 50):
        nodes = choose_nodes(own, max_nodes)
        assert 0 < len(nodes) <= max_nodes
        level, filled = Level("abc", ()), 0
        for _ in range(12):
            slots = level.slots(nodes)
            assert len(set(slots)) == len(slots)
            filled += len(slots)
            level = Level(
                "abc", tuple(node for node in level.nodes if not node.endswith(END) and node in nodes) or ("zz",)
            )
        assert filled == len(nodes)


def test_slots_are_the_nodes_places():
    level = Level("ab", ())
    assert len(set(level.nodes)) == level.num_slots == 2 + 4 + 8
    for word in ("a", "ab", "abb"):
        (slot,) = level.slots(frozenset(nodes_of(word)))
        assert level.nodes[slot] == nodes_of(word)[0]
    below = Level("ab", ("abb",))
    assert [below.nodes[slot] for slot in below.slots(frozenset(nodes_of("abb")))] == ["abb" + END]


@pytest.mark.parametrize("letters", ["", "aa", "ab\n"])
def test_bad_letters_are_refused(letters):
    with pytest.raises(VocabularyDiscoveryError, match="letters must differ"):
        Level(letters, ())


def test_letters_are_those_of_tokenised_english():
    assert set("don't 10:30") - {" "} <= set(LETTERS)
