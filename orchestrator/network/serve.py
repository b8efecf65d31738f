"""Does the work of `fedkeys serve`: begins or resumes a run, listens for clients, runs the rounds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Optional

import msgspec

from models.corpus import Corpus
from models.own_network import is_own, short_name
from models.vocabulary import Vocabulary
from models.weights import ModelSize
from orchestrator.errors import ConfigError, RunFolderError
from orchestrator.network.certificates import SERVER, read_helpers, read_signed_roster
from orchestrator.network.decryptor import RemoteDecryptor
from orchestrator.network.helper import reach_helpers
from orchestrator.network.hub import Hub
from orchestrator.network.network_sum import PROTOCOLS
from orchestrator.network.progress import Progress
from orchestrator.network.roster import Roster
from orchestrator.network.server import max_client_bytes, serve_rounds, setup_message, void_unfinished
from orchestrator.network.session import Deadlines, Note, Party
from orchestrator.network.tls import Tls
from orchestrator.rounds.build import first_weights, model_size, require_all_train, require_summable
from orchestrator.rounds.server_optimizer import Optimizer, tff_optimizer
from orchestrator.rounds.sums import SUMS
from orchestrator.rounds.types import ServerState
from orchestrator.run.data import Text, load_client_data
from orchestrator.run.folder import RunFolder
from orchestrator.run.identity import build_identity, run_digest
from orchestrator.run.loop import require_completed
from orchestrator.run.start import build_first_weights, check_start
from orchestrator.secagg.graph import fewest_survivors
from orchestrator.settings.audit import AuditConfig
from orchestrator.settings.kinds import one_of_words
from orchestrator.settings.privacy import PrivacyConfig
from orchestrator.settings.run_config import RunConfig
from orchestrator.settings.sections import AggregationConfig, ServerConfig
from orchestrator.units import count_text

if TYPE_CHECKING:  # a server without the web door loads no aiohttp
    from orchestrator.network.lobby import Lobby
    from orchestrator.network.web_door import WebDoor


def hidden_in_a_crowd(config: RunConfig, num_enrolled: int) -> RunConfig:
    """Returns a new run's configuration with the min_survivors that its clients insist on, unless it names another.

    Args:
      config: as read; the default of aggregation.min_survivors stands for none.
      num_enrolled: the number of clients on the roster.

    Raises:
      ConfigError: a cohort is smaller than that.
    """
    aggregation = config.aggregation
    if aggregation.min_survivors != AggregationConfig().min_survivors:
        return config
    least = fewest_survivors(num_enrolled, aggregation.corrupt_share)
    if least > config.rounds.cohort_size // aggregation.groups:
        raise ConfigError(
            f"rounds.cohort_size = {config.rounds.cohort_size}: of {num_enrolled} enrolled clients, each takes part in "
            f"sums of {least} and more, which hold two honest ones: raise it, or agree on aggregation.min_survivors "
            "and the clients' --min-survivors"
        )
    return msgspec.structs.replace(config, aggregation=msgspec.structs.replace(aggregation, min_survivors=least))


def serve(
    folder: RunFolder,
    config: RunConfig,
    keys: Path,
    address: Optional[str],
    deadlines: Deadlines,
    note: Note,
    decryptor_address: Optional[str] = None,
    build_optimizer: Optional[Callable[[ServerConfig, ModelSize], Optimizer]] = None,
    helper_addresses: Sequence[str] = (),
    web: Optional[WebDoor] = None,
    progress: Optional[Progress] = None,
) -> ServerState:
    """Serves a run's rounds until the last is done and returns the state after it.

    Args:
      folder: the folder of a run to resume, or a free one.
      config: the run's configuration; to resume a run, the one that its folder holds.
      keys: a folder with ca.pem, server.key, server.pem, operator.pub and roster.json.
      address: HOST:PORT to listen on for gRPC; None listens at the web door only.
      deadlines: how long it waits for clients.
      note: called with a line for each event.
      decryptor_address: HOST:PORT of the decryptor, for the encrypted sum.
      build_optimizer: builds the server's optimiser; None takes the one that the configuration names, from TFF.
      helper_addresses: HOST:PORT of each helper, in the order of helpers.pub, for the split sum.
      web: a door that browsers come to, which listens already. Its lobby, if it has one, completes the roster.
      progress: learns what an operator may see meanwhile.

    Raises:
      ConfigError: the run's aggregator is plain, or the roster is smaller than a cohort, or the bundle of the web door
        does not fit the run.
      RunFolderError: the folder can't be resumed or is not free.
      NetworkError: a key is missing, the port is in use, or the decryptor or a helper can't be reached.
    """
    _require_built_in(config.model.kind)
    require_all_train(config.model)
    _require_network_settings(config.privacy, config.audit)
    roster = read_signed_roster(keys)
    lobby = web.lobby if web is not None else None
    num_enrolled = len(roster.clients) if lobby is None else lobby.num_clients
    _check(config, num_enrolled, keys, decryptor_address, helper_addresses)
    text, vocabulary = _words_of(folder, config, note)
    size = model_size(config.model, vocabulary.size)
    if web is not None and web.site.bundle is not None:
        web.site.bundle.require_fit(config, vocabulary)
    progress = progress or Progress()
    if lobby is not None:
        progress.open_lobby(lobby)
        roster = _complete_roster(keys, lobby, note)
    max_bytes = max_client_bytes(config, size)
    hub = Hub(roster.clients, setup_message(config, vocabulary), max_bytes)
    progress.begin(hub, roster.clients, config.aggregation.aggregator, config.rounds.count)
    where = _listen(hub, address, keys, web)
    reason = "the server was stopped"
    try:
        if web is not None:
            web.begin(hub, max_bytes, roster, config.aggregation.aggregator)
        decryptor = RemoteDecryptor(decryptor_address, keys) if decryptor_address else None
        helpers = reach_helpers(helper_addresses, keys, run_digest(config, vocabulary), deadlines.stage_s)
        note(f"listening on {where} for {len(roster.clients)} enrolled clients; loading TensorFlow")
        first_state, update_server = (build_optimizer or tff_optimizer)(config.server, size)
        if text is None:
            state = void_unfinished(folder, config, folder.load_to_go_on(), note)
        else:
            state = _begin(folder, config, text, size, first_state)
        party = Party(hub, roster.clients, deadlines, note, decryptor, helpers, progress)
        state = serve_rounds(folder, config, state, update_server, party)
        reason = f"all {config.rounds.count} rounds are done"
    finally:
        hub.stop(reason)
        if web is not None:
            web.end_rounds(reason)
    require_completed(folder.rounds())  # once the clients are told that it is over
    return state


def _words_of(folder: RunFolder, config: RunConfig, note: Note) -> tuple[Optional[Text], Vocabulary]:
    """The text that a new run's words come from, and the words; a run that is resumed has these, and no text is read.

    Raises:
      RunFolderError: the folder can't be resumed or is not free.
    """
    if folder.exists():
        folder.lock()
        vocabulary = folder.vocabulary()
        _check_same_run(folder, config, vocabulary)
        return None, vocabulary
    folder.require_free()
    note("reading the text that the word list comes from")
    text = load_client_data(config)
    note(text.data.origin.statement)
    if began_with := check_start(config, text.data.vocabulary):
        note(began_with)
    return text, text.data.vocabulary


def _complete_roster(keys: Path, lobby: Lobby, note: Note) -> Roster:
    """Waits until all phones are enrolled and on the roster, and returns it."""
    note(f"the lobby is open: {count_text(lobby.wanted, 'phone')} can enrol")
    num_clients = len(lobby.wait())
    note(f"{keys / 'roster.json'} has all {count_text(num_clients, 'client')} now: give Python clients this copy")
    return read_signed_roster(keys)


def _listen(hub: Hub, address: Optional[str], keys: Path, web: Optional[WebDoor]) -> str:
    """Listens for gRPC, unless browsers alone are to come, and returns where the server listens, for people."""
    if address is None:
        assert web is not None  # else nobody could come
        return "the web door"
    return f"{address.rpartition(':')[0]}:{hub.listen(address, Tls.of_role(keys, SERVER))}"


def _require_built_in(kind: str) -> None:
    """Refuses a network that is code: each client would have to run the code of the server."""
    if is_own(kind):
        raise ConfigError(
            f"model.kind = {short_name(kind)!r}: a network of your own is trained by `fedkeys train` only, since "
            "clients would have to run its code: export its bundle, or serve a built-in kind"
        )


def _require_network_settings(privacy: PrivacyConfig, audit: AuditConfig) -> None:
    """Refuses what clients in other processes can't do."""
    if privacy.traits.adds_noise or privacy.adaptive_clip:
        raise ConfigError(
            f"privacy.mechanism = {privacy.mechanism!r}, adaptive_clip = {privacy.adaptive_clip}: "
            "network rounds have neither yet; use fedkeys train, or set 'none' and false"
        )
    if audit.phrases or audit.canaries:
        raise ConfigError(
            f"audit.phrases = {audit.phrases}, audit.canaries = {audit.canaries}: nobody can plant them "
            "in other machines' text and updates; set both to 0"
        )


def _check(
    config: RunConfig, num_enrolled: int, keys: Path, decryptor_address: Optional[str], helper_addresses: Sequence[str]
) -> None:
    name, cohort = config.aggregation.aggregator, config.rounds.cohort_size
    if name not in PROTOCOLS:
        raise ConfigError(
            f"aggregation.aggregator = {name!r}: over a network the sum is {one_of_words(PROTOCOLS)}; set one"
        )
    if SUMS[name].needs_decryptor and not decryptor_address:
        raise ConfigError(f"aggregation.aggregator = {name!r}: start `fedkeys decryptor` and name it by --decryptor")
    if SUMS[name].needs_helpers:
        _check_helpers(config.aggregation.helpers, keys, len(helper_addresses))
    require_summable(config)
    if cohort > num_enrolled:
        raise ConfigError(
            f"rounds.cohort_size = {cohort}, but {keys} has {num_enrolled} clients enrolled: lower it or enrol more"
        )


def _check_helpers(num: int, keys: Path, num_addresses: int) -> None:
    num_keys = len(read_helpers(keys))
    if num_keys != num:
        raise ConfigError(
            f"aggregation.helpers = {num}, but {keys / 'helpers.pub'} names {num_keys}: clients seal for all of them; "
            "set it to that, or make new keys with `fedkeys keygen --helpers`"
        )
    if num_addresses != num:
        raise ConfigError(
            f"aggregation.helpers = {num}: start `fedkeys helper` for each and name all by --helper, in their order; "
            f"{num_addresses} are named"
        )


def _check_same_run(folder: RunFolder, config: RunConfig, vocabulary: Vocabulary) -> None:
    then = folder.identity()
    corpus = Corpus(then.corpus_name, {}, then.corpus_sha256)  # the text is not read again: only its words were used
    now = build_identity(config, corpus, vocabulary, then.num_weights)
    for name in ("config_sha256", "vocabulary_sha256"):
        if getattr(then, name) != getattr(now, name):
            raise RunFolderError(f"{folder.path} was begun with another {name.rpartition('_')[0]}: restore its files")


def _begin(
    folder: RunFolder,
    config: RunConfig,
    text: Text,
    size: ModelSize,
    first_state: Callable[[], object],
) -> ServerState:
    """Returns the state before the first round. It uses no word counts, since this server knows none."""
    vocabulary, origin = text.data.vocabulary, text.data.origin
    weights, start = build_first_weights(config, vocabulary) or (None, None)
    identity = build_identity(config, text.corpus, vocabulary, size.num_weights, origin, start)
    folder.create(config, vocabulary, identity, weights)
    state = ServerState(0, weights or first_weights(config, size, None), first_state())
    folder.save_checkpoint(state, config.rounds.keep_checkpoints)
    return state
