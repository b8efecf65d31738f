"""Which sentences of a public text are most like what people type, by noisy counts of words and pairs of words.

The public text is divided into as many parts as people were counted, and counted as they were (models.private_bigram),
without noise. Both counts make a model of the same form, with the same bounds. A sentence is the nearer to what people
type the more likely it is under their model, compared with the public text's own.

Source: Moore, Lewis 2010, "Intelligent Selection of Language Model Training Data", section 3: the difference of two
cross-entropies.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.client_data import Sentences
from models.private_bigram import PrivateBigram, build_private_bigram, person_vector, read_positions

_AT_ONCE = 8192  # positions whose rows are in memory together
_LEAST = 1e-9  # probability: a model that saw few sentences may give their end none


def count_public_text(sentences: Sentences, num_parts: int, like: PrivateBigram) -> PrivateBigram:
    """Returns the model of a public text, counted as people were, a part of it for each of them.

    Args:
      sentences: ids [num_words] each, in the text's order.
      num_parts: the people who were counted.
      like: their model, whose slots and bounds it takes.
    """
    total, parts = np.zeros(like.slots.size), min(num_parts, len(sentences))
    ends = np.linspace(0, len(sentences), parts + 1).round().astype(int)
    for first, end in zip(ends, ends[1:]):
        total += person_vector(sentences[first:end], like.slots)
    return build_private_bigram(total, like.noise_std, like.slots)


def rate_sentences(sentences: Sentences, people: PrivateBigram, public: PrivateBigram) -> NDArray[np.float64]:
    """Returns how much likelier each sentence is under one model than under another, in nats a word, its end included.

    Args:
      sentences: ids [num_words] each.
      people: the model of what people type.
      public: that of the public text.
    """
    if not sentences:
        return np.zeros(0)
    before, after = read_positions(sentences)
    rates = np.concatenate(
        [
            _log_likelihood(people, before[at : at + _AT_ONCE], after[at : at + _AT_ONCE])
            - _log_likelihood(public, before[at : at + _AT_ONCE], after[at : at + _AT_ONCE])
            for at in range(0, len(before), _AT_ONCE)
        ]
    )
    lengths = np.array([len(own) + 1 for own in sentences])
    return np.add.reduceat(rates, np.append(0, lengths.cumsum()[:-1])) / lengths


def _log_likelihood(
    model: PrivateBigram, before: NDArray[np.integer], after: NDArray[np.integer]
) -> NDArray[np.float64]:
    return np.log(np.maximum(model.interpolated(before).of(after), _LEAST).astype(np.float64))


def choose_sentences(rates: NDArray[np.floating], lengths: Sequence[int], share: float) -> NDArray[np.int64]:
    """Returns the places, in the text's order, of as many best-rated sentences as hold a share of its words.

    Of equal rates the earlier is taken first.

    Args:
      rates: [sentences], at least one.
      lengths: their words.
      share: above 0, at most 1.

    >>> choose_sentences(np.array([0.5, 2.0, -1.0, 2.0]), [5, 3, 4, 8], share=0.4).tolist()
    [1, 3]
    """
    order = np.argsort(-np.asarray(rates), kind="stable")
    held = np.cumsum(np.asarray(lengths)[order])
    return np.sort(order[: 1 + int(np.searchsorted(held, share * held[-1]))])
