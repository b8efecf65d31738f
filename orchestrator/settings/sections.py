"""The sections of a run's settings: meaning, range and default of each."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from models.chitchat import BUILT_IN
from models.segmentation import NO_SEGMENTER, SEGMENTERS
from models.tokeniser import LATEST, TOKENISERS
from orchestrator.settings.kinds import (
    CLIENT_RUNTIMES,
    ROBUST_MEANS,
    SCHEDULES,
    SUM_TRAITS,
    WEIGHTINGS,
    SumTraits,
    kind_of,
)
from orchestrator.settings.types import (
    Count,
    CountOrNone,
    NotNegative,
    Positive,
    Share,
    ShareBelowOne,
    ShareInside,
    VocabularySize,
    one_of,
    says,
)
from tff_pipelines.algorithms import ALGORITHMS

_ScheduleName = Annotated[str, one_of(SCHEDULES)]


class DataConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The text, and how people are split into training, dev and test."""

    source: Annotated[
        str,
        Meta(min_length=1),
        says(
            f"The text: '{BUILT_IN}', or a path to JSON Lines, to a folder of text files or to TFF's SQLite client "
            "data."
        ),
    ] = BUILT_IN
    vocabulary_size: Annotated[
        VocabularySize,
        says(
            "Number of words, the most frequent ones of the list: they are scored, and the n-gram baselines know them."
        ),
    ] = 10_000
    vocabulary: Annotated[
        str,
        Meta(min_length=1),
        says(
            "Where the words come from: 'pooled' counts the training people's text in one place, and fills up the list "
            "from the public one; 'public' takes the public one alone, which is nobody's text; 'federated' finds them "
            "through noisy secure sums, at epsilon 8; or a file that `fedkeys vocabulary` wrote."
        ),
    ] = "pooled"
    min_people: Annotated[
        Count, says("pooled: a word stays out of the list unless this many training people typed it.")
    ] = 10
    language: Annotated[
        str,
        Meta(min_length=1),
        says("Language of the public list (the package wordfreq): en, de, es ...; 'none' fills up nothing."),
    ] = "en"
    tokeniser: Annotated[
        int, Meta(ge=min(TOKENISERS), le=max(TOKENISERS)), says("Version of the rules that split text into words.")
    ] = LATEST.version
    segmenter: Annotated[
        str,
        one_of(SEGMENTERS),
        says("Who cuts words of scripts without spaces (Chinese, Japanese, Thai ...): none, or icu (package icu4py)."),
    ] = NO_SEGMENTER
    max_words: Annotated[Count, says("Time steps: a sentence is cut after this many words.")] = 20
    min_sentences: Annotated[Count, says("People with fewer sentences do not train.")] = 10
    max_sentences_train: Annotated[Count, says("Use at most this many sentences per training person.")] = 1000
    max_sentences_eval: Annotated[Count, says("Use at most this many sentences per dev or test person.")] = 200
    dev_share: Annotated[ShareInside, says("Share of the people for choices: curves, mixing weight, settings.")] = 0.1
    test_share: Annotated[ShareInside, says("Share of the people for the final figures.")] = 0.1
    forgotten: Annotated[
        str, says("Places of people whom the run forgot, in the order of their ids; `fedkeys forget` writes it.")
    ] = ""


class ClientConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a client trains in a round: SGD on its sentences."""

    runtime: Annotated[
        Annotated[str, one_of(CLIENT_RUNTIMES)],
        says("tff: TFF's workers train the clients. litert: the model as exported for phones does, in LiteRT."),
    ] = "tff"
    learning_rate: Annotated[Positive, says("Learning rate of the client's SGD.")] = 3.0
    schedule: Annotated[
        _ScheduleName,
        says("How the client's learning rate falls over the rounds: from server.decay_start to server.decay_floor."),
    ] = "constant"
    clip_norm: Annotated[
        NotNegative,
        says(
            "Limit to the L2 norm of a step's recurrent, bias and projection gradients together: a longer step is "
            "scaled down. 0 = off."
        ),
    ] = 1.0
    epochs: Annotated[Count, says("Number of passes over the client's sentences in a round.")] = 1
    batch_size: Annotated[Count, says("Number of sentences in a batch.")] = 16
    max_sentences: Annotated[Count, says("Use at most this many sentences per client in a round.")] = 200
    length_buckets: Annotated[
        Count,
        says("Sort the sentences by length into this many groups, so that batches hold less padding; 1 = off."),
    ] = 1
    proximal: Annotated[
        NotNegative,
        says("FedProx's mu, which pulls the client back to the round's first weights; 0 = off."),
    ] = 0.0
    dropout: Annotated[
        ShareBelowOne,
        says("Share of the LSTM's inputs and outputs that training drops; 0 = off. Not exported to phones."),
    ] = 0.0
    weighting: Annotated[Annotated[str, one_of(WEIGHTINGS)], says("Weight of a client's update in the mean.")] = (
        "tokens"
    )


class ServerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the server steps along the mean update (Reddi et al. 2021)."""

    algorithm: Annotated[
        Annotated[str, one_of(ALGORITHMS)],
        says("The server's optimiser. fedavg uses neither momentum, beta_2 nor epsilon, fedavgm only momentum."),
    ] = "fedadam"
    learning_rate: Annotated[
        Positive, says("Learning rate of the server's optimiser; about 1 suits fedavg and fedavgm.")
    ] = 0.012
    schedule: Annotated[_ScheduleName, says("How the learning rate falls over the rounds.")] = "linear"
    decay_start: Annotated[Share, says("Share of the rounds after which the learning rate begins to fall.")] = 0.4
    decay_floor: Annotated[Share, says("Share of the learning rate that is left in the last round.")] = 0.05
    warmup_rounds: Annotated[
        CountOrNone, says("Number of first rounds in which the learning rate climbs to its full size.")
    ] = 0
    momentum: Annotated[ShareBelowOne, says("Momentum of fedavgm; beta_1 of fedadam and fedyogi.")] = 0.9
    beta_2: Annotated[ShareBelowOne, says("Decay of fedadam's and fedyogi's memory of squared updates.")] = 0.99
    epsilon: Annotated[Positive, says("Keeps the adaptive steps finite (Reddi's tau).")] = 1e-6
    average_decay: Annotated[
        ShareBelowOne,
        says("Evaluate and export an exponential average of the weights with this decay; 0 = the last ones."),
    ] = 0.95


class RoundsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many rounds there are, of how many clients, and which checkpoints are kept."""

    count: Annotated[Count, says("Number of rounds.")] = 1000
    cohort_size: Annotated[Count, says("Number of clients in a round.")] = 10
    checkpoint_every: Annotated[Count, says("Save a checkpoint every this many rounds, and after the last.")] = 50
    keep_checkpoints: Annotated[Count, says("Number of checkpoints that are kept: the newest.")] = 3


class EvaluationConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Federated evaluation on the dev people during training."""

    every: Annotated[Count, says("Evaluate every this many rounds, and after the last.")] = 50
    max_sentences: Annotated[Count, says("Use at most this many sentences per dev person.")] = 25


class RuntimeConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The TFF workers. Their number changes the weights by rounding at most."""

    workers: Annotated[
        str,
        says("'auto', a number of local workers, or 'host:port,host:port' of remote ones (`fedkeys worker`)."),
    ] = "auto"
    clients_per_call: Annotated[
        Annotated[int, Meta(ge=1, le=100)],
        says(
            "Clients in one call of a worker, which holds several copies of the weights for each client; a round's "
            "last calls may have half as many more."
        ),
    ] = 2


class AggregationConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How updates become a sum."""

    aggregator: Annotated[
        Annotated[str, one_of(SUM_TRAITS)],
        says(
            "plain: the server sees each update. secagg: it sees only their sum. encrypted: it adds ciphertexts, and "
            "another party decrypts the sum. split: it adds masked updates, and helpers add up the masks. All give the "
            "same total, bit for bit."
        ),
    ] = "secagg"
    clip_norm: Annotated[
        Positive,
        says("An update longer than this (L2 norm over all weights) is scaled down to it before it is encoded."),
    ] = 30.0
    min_survivors: Annotated[
        Count, says("Abandon a round in which fewer updates than this can be summed: too few to hide in.")
    ] = 2
    corrupt_share: Annotated[
        ShareBelowOne,
        says("secagg: share of a cohort that may collude with the server; determines degree and threshold."),
    ] = 0.05
    dropout_share: Annotated[
        ShareBelowOne,
        says("secagg: share of a cohort that may vanish without ending the round; determines degree and threshold."),
    ] = 0.3
    groups: Annotated[
        Count,
        says(
            "Sum the cohort in this many groups, each by itself, and combine their means by aggregation.robust, so "
            "that a liar spoils one group; 1 = one sum of all."
        ),
    ] = 1
    robust: Annotated[
        Annotated[str, one_of(ROBUST_MEANS)],
        says(
            "How the groups' means are combined. median: in each coordinate the one in the middle. trimmed: in each "
            "coordinate the mean without the lowest and the highest quarter."
        ),
    ] = "median"
    complete_up_to: Annotated[
        Annotated[int, Meta(ge=0, le=2**20)],
        says(
            "secagg: in cohorts up to this size everybody shares masks with everybody, so that the server chooses "
            "nothing; in larger ones it draws who does with whom."
        ),
    ] = 100
    poly_degree: Annotated[
        Count, says("encrypted: number of coefficients of a ciphertext's polynomials, a power of two.")
    ] = 4096
    coeff_modulus_bits: Annotated[
        Count,
        says("encrypted: bits of the ciphertext modulus; more bits leave more room for noise and give less security."),
    ] = 56
    helpers: Annotated[
        Annotated[int, Meta(ge=1, le=5)],
        says("split: number of helpers; to see one update, all of them and the server must collude."),
    ] = 1

    @property
    def traits(self) -> SumTraits:
        """What the aggregator promises."""
        return kind_of(SUM_TRAITS, "aggregation.aggregator", self.aggregator)


class FaultsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Clients that vanish from a round on purpose, to test that it ends without them; shares of the cohort."""

    before_shares: Annotated[
        ShareBelowOne, says("Share that vanishes before it shares its keys; it trains nothing.")
    ] = 0.0
    before_upload: Annotated[ShareBelowOne, says("Share that vanishes after training, before its upload.")] = 0.0
    before_unmask: Annotated[ShareBelowOne, says("Share that vanishes after its upload; its update counts.")] = 0.0
