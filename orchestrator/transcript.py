"""What the server saw of one client in a round, next to what a server that adds in the clear would have seen."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, Optional

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.client_data import ClientData
from models.corpus import ClientId
from models.vocabulary import NUM_SPECIAL, Vocabulary
from models.weights import ModelSize, Weights
from orchestrator.aggregator import AggregateResult, Cohort, DropStage, Vector
from orchestrator.audit.canary_clients import build_canaries, canary_names, participants
from orchestrator.config import RunConfig
from orchestrator.errors import RunFolderError
from orchestrator.privacy_settings import FROM_CLIENTS
from orchestrator.report_data import Round, RunView, read_run
from orchestrator.round import RoundFunctions, RoundReport, ServerState, run_round
from orchestrator.run_data import load_client_data
from orchestrator.run_folder import RunFolder
from orchestrator.run_functions import (
    NoStopwatch,
    build_aggregator,
    build_encoder,
    client_weight,
    cut,
    draw_batches,
    learning_rates,
    load_trainer,
)

NUM_SHOWN = 8
NUM_PICTURED = 4800  # bytes
FALSE_ALARM_RATE = 1e-6  # of each test, on an upload that hides everything


def read_transcript(
    folder: RunFolder, round_num: Optional[int], client_id: Optional[str], note: Callable[[str], None]
) -> dict[str, Any]:
    """The figures of `fedkeys transcript`: one client's upload in the clear, under masks and encrypted.

    The round is computed again from the checkpoint before it, with the run's own functions and all its survivors; its
    survivors' vectors are summed by secure aggregation, and what the server receives of the client is kept. The
    client's vector is also encrypted as in the encrypted sum. Keys are fresh: masks and ciphertexts differ each time.

    `uniform_bytes`: chi-square of the bytes against uniform ones. `correlation`: Pearson's r between what the server
    received and the vector in the clear, slot by slot. `ok` unless p_value is below false_alarm_rate.
    `byte_counts`: how often each value of a byte occurs. `picture`: the first bytes, in base64.

    Args:
      folder: a run whose checkpoint before the round is still there.
      round_num: a completed round; None takes the last that can be shown.
      client_id: a survivor of the round; None takes the first.
      note: is told what begins.

    Raises:
      RunFolderError: the round or the client can't be shown, or the text is not the run's.
      WeakParameters: the cohort is too small for secure aggregation.
    """
    run = read_run(folder)
    if run.config.privacy.mechanism in FROM_CLIENTS:
        raise RunFolderError(
            f"{folder.path}: its clients add noise (privacy.mechanism = {run.config.privacy.mechanism!r}), and a "
            "transcript of their vectors without it would show what no server saw"
        )
    report = _find_round(folder, run, round_num)
    round_num, client = report.round_num, _find_client(report, canary_names(run.config), client_id)
    state = folder.load_checkpoint(round_num - 1)
    note("reading the text")
    data = _read_text(folder, run, report)
    note("loading TensorFlow")
    witness = Witness(run.config, (client,))
    note(f"computing round {round_num} again: {len(report.survivors)} clients train and mask")
    again = _run_again(run.config, data, state, report, witness)
    if again.outcome != "completed":
        raise RunFolderError(f"secure aggregation could not have summed round {round_num}: {again.reason}")
    note("encrypting the client's vector")
    plain, masked = witness.plain[client], witness.masked[client]
    ciphertexts, slots = encrypt_upload(run.config, client, round_num, plain)
    size, vocabulary = ModelSize.of(state.weights), folder.vocabulary()
    typed = _typed(data, client, vocabulary, size)
    views = {"plain": plain.view(np.uint8), "masked": masked.view(np.uint8), "encrypted": ciphertexts}
    figures: dict[str, Any] = {
        "round_num": round_num,
        "client": client,
        "aggregator": run.config.aggregation.aggregator,
        "mechanism": run.config.privacy.mechanism,
        "update_norm": {"of the run": report.metric("update_norm"), "computed again": again.metrics["update_norm"]},
        "false_alarm_rate": FALSE_ALARM_RATE,
        "plain": {
            "first_words": plain[:NUM_SHOWN].tolist(),
            "loudest": _loudest_words(plain, size, vocabulary),
        },
        "masked": {
            "first_words": masked[:NUM_SHOWN].tolist(),
            "loudest": _loudest_words(masked, size, vocabulary),
            "correlation": _correlation(plain, masked.view(np.int32)),
        },
        "encrypted": {
            "first_bytes": ciphertexts[: 4 * NUM_SHOWN].tobytes().hex(),
            "correlation": _correlation(plain, slots),
        },
        "typed": typed,
        "typed_share": len(typed) / (size.vocabulary_size - NUM_SPECIAL),
    }
    for view, octets in views.items():
        figures[view] = {"bytes": octets.nbytes, **figures[view], **_bytes_seen(octets)}
    return figures


def _bytes_seen(octets: NDArray[np.uint8]) -> dict[str, Any]:
    counts = np.bincount(octets, minlength=256)
    return {
        "uniform_bytes": _uniformity(counts),
        "byte_counts": counts.tolist(),
        "picture": base64.b64encode(octets[:NUM_PICTURED].tobytes()).decode(),
    }


def _find_round(folder: RunFolder, run: RunView, round_num: Optional[int]) -> Round:
    kept = set(folder.checkpoints())
    possible = {r.round_num: r for r in run.rounds if r.outcome == "completed" and r.round_num - 1 in kept}
    if possible and round_num is None:
        return possible[max(possible)]
    if round_num in possible:
        return possible[round_num]
    names = ", ".join(map(str, possible)) or "none: set rounds.keep_checkpoints and rounds.checkpoint_every"
    which = "no round" if round_num is None else f"round {round_num}"
    can_t = "can" if round_num is None else "can't"
    raise RunFolderError(
        f"{which} of {folder.path} {can_t} be shown: it takes a completed round whose checkpoint before is "
        f"kept; here that is {names}"
    )


def _find_client(report: Round, canaries: Collection[ClientId], client_id: Optional[str]) -> ClientId:
    people = [name for name in report.survivors if name not in canaries]
    if not people:
        raise RunFolderError(f"round {report.round_num} summed canary clients only: name another round")
    if client_id is not None and client_id not in people:
        raise RunFolderError(
            f"client {client_id} sent no update in round {report.round_num}; these did: {', '.join(people)}"
        )
    return ClientId(client_id or people[0])


def read_own_text(folder: RunFolder, config: RunConfig) -> ClientData:
    """The text that the run was trained on.

    Raises:
      RunFolderError: it is not there any more.
    """
    corpus, data = load_client_data(config)
    identity = folder.identity()
    if (corpus.digest, data.vocabulary.digest) != (identity.corpus_sha256, identity.vocabulary_sha256):
        raise RunFolderError(
            f"{folder.path} was trained on another text than {config.data.source} holds now: restore it"
        )
    return data


def _read_text(folder: RunFolder, run: RunView, report: Round) -> ClientData:
    data = read_own_text(folder, run.config)
    here = participants(run.config, data)
    elsewhere = [name for name in report.survivors if name not in here]
    if elsewhere:
        raise RunFolderError(
            f"round {report.round_num} can't be computed again here: client {elsewhere[0]} is no training person of "
            f"{run.config.data.source}"
        )
    return data


class Witness:
    """Secure aggregation that keeps some clients' vectors, `plain`, and what the server received of them, `masked`."""

    name = "secagg"

    def __init__(self, config: RunConfig, clients: Collection[ClientId]):
        secagg = msgspec.structs.replace(config.aggregation, aggregator="secagg")
        self._inner = build_aggregator(secagg, self._observe)
        self._clients = clients
        self.plain: dict[ClientId, Vector] = {}
        self.masked: dict[ClientId, Vector] = {}

    def sum(
        self,
        vectors: Iterable[tuple[ClientId, Vector]],
        cohort: Cohort,
        drops: Mapping[ClientId, DropStage],
    ) -> AggregateResult:
        """See orchestrator.aggregator.Aggregator."""
        return self._inner.sum(self._passing(vectors), cohort, drops)

    def _passing(self, vectors: Iterable[tuple[ClientId, Vector]]) -> Iterator[tuple[ClientId, Vector]]:
        for client_id, vector in vectors:
            if client_id in self._clients:
                self.plain[client_id] = vector.copy()
            yield client_id, vector

    def _observe(self, stage: str, client_id: ClientId, wire: bytes) -> None:
        from orchestrator.secagg import messages

        if stage == "upload" and client_id in self._clients:
            words = messages.decode(wire, messages.MaskedVector, len(wire)).words
            self.masked[client_id] = np.frombuffer(words, "<u4").astype(np.uint32)


def _run_again(config: RunConfig, data: ClientData, state: ServerState, report: Round, witness: Witness) -> RoundReport:
    size, seed, round_num = ModelSize.of(state.weights), config.seed, report.round_num
    trainer = load_trainer(config, size)
    client_rate, server_rate = learning_rates(config, round_num)

    def train_clients(weights: Weights, learning_rate: float, seed: int, batches: Iterable) -> Iterator[Mapping]:
        return (trainer(weights, learning_rate, seed, own) for own in batches)

    functions = RoundFunctions(
        batches_of=lambda person, rng: draw_batches(config, cut(data.train[person], size.vocabulary_size), rng),
        train_clients=train_clients,
        weight_of=lambda update: client_weight(config, update.num_tokens, update.num_examples),
        encoder=build_encoder(config, size),
        aggregator=witness,
        update_server=lambda optimizer_state, weights, mean_delta, rate: (optimizer_state, weights),
        canaries=build_canaries(config, size),
    )
    members = tuple(map(ClientId, report.selected))
    # Whoever was not summed need not train again: the sum is that of the survivors.
    drops = {member: DropStage.BEFORE_SHARES for member in members if member not in report.survivors}
    return run_round(
        state,
        Cohort(round_num, members, config.aggregation.min_survivors),
        functions,
        seed=seed,
        client_learning_rate=client_rate,
        server_learning_rate=server_rate,
        stopwatch=NoStopwatch(),
        drops=drops,
    )[1]


def encrypt_upload(
    config: RunConfig, client: ClientId, round_num: int, vector: Vector
) -> tuple[NDArray[np.uint8], NDArray[np.uint64]]:
    """(the ciphertexts' bytes, the coefficient of their first polynomials for each slot) of the vector's upload."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from orchestrator.homomorphic import messages
    from orchestrator.homomorphic.client import ClientEncryptor
    from orchestrator.homomorphic.decryptor import SumDecryptor
    from orchestrator.homomorphic.parameters import BfvParameters

    parameters = BfvParameters(config.aggregation.poly_degree, config.aggregation.coeff_modulus_bits)
    own, decryptors = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    roster = {client: own.public_key().public_bytes_raw()}
    terms = SumDecryptor(parameters, decryptors, roster, min_contributions=2).open_round(round_num, vector.size)
    encryptor = ClientEncryptor(client, own, decryptors.public_key().public_bytes_raw(), 2, set())
    upload = encryptor.encrypt(terms, vector)
    ciphertexts = messages.decode(upload, messages.Upload, len(upload)).ciphertexts
    polynomials = [words[: parameters.poly_degree] for words in messages.split_ciphertexts(ciphertexts, parameters)]
    return np.frombuffer(ciphertexts, np.uint8), np.concatenate(polynomials)[: vector.size]


def _loudest_words(words: Vector, size: ModelSize, vocabulary: Vocabulary) -> list[str]:
    """The words whose output bias the update raises most: in the clear, mostly what the client typed.

    Source: for the bias of the output layer the gradient is the word's predicted minus its true share.
    """
    biases = words[size.num_weights - size.vocabulary_size : size.num_weights].view(np.int32)
    best = np.argsort(biases[NUM_SPECIAL:], kind="stable")[:NUM_SHOWN] + NUM_SPECIAL  # delta = server's minus client's
    return [vocabulary.words[i] for i in best]


def _typed(data: ClientData, client: ClientId, vocabulary: Vocabulary, size: ModelSize) -> list[str]:
    """The client's words that the model knows, the most frequent first."""
    ids = np.concatenate(cut(data.train[client], size.vocabulary_size))
    known, counts = np.unique(ids[ids >= NUM_SPECIAL], return_counts=True)
    return [vocabulary.words[i] for i in known[np.argsort(-counts, kind="stable")]]


def _uniformity(byte_counts: NDArray) -> dict[str, Any]:
    from scipy import stats

    chi_square, p_value = stats.chisquare(byte_counts)
    return _test(int(byte_counts.sum()), "chi_square", chi_square, p_value)


def _correlation(plain: Vector, received: NDArray) -> dict[str, Any]:
    """Without correlation r * sqrt(n) is a standard normal variable, for so many slots whatever their values."""
    r = np.corrcoef(plain.view(np.int32), received.astype(np.float64))[0, 1]
    return _test(plain.size, "r", r, math.erfc(abs(r) * math.sqrt(plain.size / 2)))


def _test(n: int, statistic: str, value: float, p_value: float) -> dict[str, Any]:
    return {"n": n, statistic: float(value), "p_value": float(p_value), "ok": bool(p_value >= FALSE_ALARM_RATE)}


def print_transcript(figures: Mapping[str, Any]) -> None:
    """Prints what read_transcript found, for people."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    plain, masked, encrypted = (figures[view] for view in ("plain", "masked", "encrypted"))
    table = Table(title=f"Client {figures['client']} in round {figures['round_num']}, as the server sees it")
    for column in ("", "plain", "secagg: masked", "encrypted"):
        table.add_column(column)
    table.add_row("bytes", *(f"{view['bytes']:,}" for view in (plain, masked, encrypted)))
    table.add_row(
        "it begins with",
        "\n".join(str(word - (word >> 31 << 32)) for word in plain["first_words"]),  # signed
        "\n".join(str(word - (word >> 31 << 32)) for word in masked["first_words"]),
        "\n".join(encrypted["first_bytes"][i : i + 8] for i in range(0, 8 * NUM_SHOWN, 8)),
    )
    typed = set(figures["typed"])
    table.add_row("loudest words", *(_words_text(view["loudest"], typed) for view in (plain, masked)), "")
    table.add_row("bytes uniform?", *(_test_text(view["uniform_bytes"]) for view in (plain, masked, encrypted)))
    correlations = (_test_text(view["correlation"]) for view in (masked, encrypted))
    table.add_row("correlation with plain", "", *correlations)
    console.print(table)
    norms, noised = figures["update_norm"], "" if figures["mechanism"] == "none" else " with its noise"
    for line in (
        f"This run's aggregator is {figures['aggregator']}: that column is what its server received.",
        "Loudest words: those whose output bias the upload raises most. * = this client does type it; it types "
        f"{figures['typed_share']:.1%} of the model's words.",
        f"A test fails if p is below {figures['false_alarm_rate']:g}: so often an upload that hides everything would.",
        "Keys are fresh: masks and ciphertexts are others each time, the vector under them is the same.",
        f"Norm of the round's mean update: {norms['of the run']:.9g} in the run{noised}, "
        f"{norms['computed again']:.9g} again.",
    ):
        console.print(line, highlight=False)


def _words_text(words: list[str], typed: set[str]) -> str:
    return "\n".join(f"{word} *" if word in typed else word for word in words)


def _test_text(test: Mapping[str, Any]) -> str:
    name, symbol = ("chi_square", "chi²") if "chi_square" in test else ("r", "r")
    verdict = {"chi_square": ("no", "yes"), "r": ("yes", "no")}[name][test["ok"]]
    p_value = f"p = {test['p_value']:.2g}" if test["p_value"] > 1e-300 else "p < 1e-300"
    return f"{verdict}\n{symbol} = {test[name]:,.4g}\nn = {test['n']:,}\n{p_value}"
