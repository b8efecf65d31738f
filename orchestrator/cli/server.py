"""The command of the server of rounds over real connections: serve."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Optional

import click

from orchestrator.cli import options
from orchestrator.cli.operator import OPERATOR, operator_page
from orchestrator.cli.output import Output, log, prints, say, silence_grpc
from orchestrator.cli.web import NO_PAIR, WebFlags, open_door, takes_web
from orchestrator.units import count_text

if TYPE_CHECKING:
    from orchestrator.settings.run_config import RunConfig
    from orchestrator.settings.types import Setting

_NETWORK_AGGREGATOR = options.SettingFlag(
    "--aggregator", "aggregation.aggregator", "How the updates are summed: secagg, encrypted or split.", metavar="NAME"
)


@click.command()
@options.RUN
@options.KEYS
@options.listens("localhost:8443", "Where clients reach the server.")
@options.CONFIG
@options.PRESET
@click.option(
    "--decryptor", "decryptor_address", metavar="HOST:PORT", help="Where `fedkeys decryptor` listens, for encrypted."
)
@click.option(
    "--helper",
    "helper_addresses",
    multiple=True,
    metavar="HOST:PORT",
    help="Where `fedkeys helper` listens, for split; once for each helper, in the order of their numbers.",
)
@options.seconds("--wait", 60.0, "Seconds to wait for a full cohort.", "clients_s")
@options.seconds("--train-timeout", 600.0, "Seconds that a client may train.", "train_s")
@options.seconds("--stage-timeout", 30.0, "Seconds to wait for a message.", "stage_s")
@takes_web
@OPERATOR
@options.RESUME
@options.takes_settings(options.DATA, options.ROUNDS, options.COHORT, _NETWORK_AGGREGATOR, options.SEED, free=False)
@prints
def serve(
    run_path: Path,
    keys: Path,
    address: str,
    config_path: Optional[Path],
    preset: Optional[str],
    decryptor_address: Optional[str],
    helper_addresses: tuple[str, ...],
    clients_s: float,
    train_s: float,
    stage_s: float,
    resume: bool,
    web: Optional[WebFlags],
    operator_address: Optional[str],
    overrides: dict[str, Setting],
) -> Output:
    """Serve the rounds of a run to `fedkeys client` processes, over gRPC with TLS. It ends after the last round.

    A client that is late or loses its connection has dropped out of the round; the round ends with the others. Writes
    into DIR what `fedkeys train` writes. The word list comes from the text of --data.

    With --web browsers take part, too: phones open the page, and enrol with the codes that --phones makes. Give every
    Python client the roster that has them (docs/web.md). With --operator you can watch the rounds in a browser.

    \b
    Example, each line in a terminal of its own:
      fedkeys keygen --out keys --client ann --client bob --client eve
      fedkeys serve --run runs/net --keys keys --cohort 3 --rounds 3
      fedkeys client --server localhost:8443 --keys keys --client-id ann --data ann.txt
    """
    silence_grpc()
    if resume and web is not None and web.phones:
        raise click.UsageError("--phones and --resume: a run that was begun has its roster; leave --phones out")
    from orchestrator.run.folder import RunFolder

    folder = RunFolder(run_path)
    if resume:
        from orchestrator.run.saved import read_run

        config = read_run(folder).config
    else:
        folder.require_free()
        config = _read_config(config_path, preset, overrides, keys, web.phones if web is not None else 0)
    from orchestrator.network.serve import serve as serve_run
    from orchestrator.network.session import Deadlines
    from orchestrator.rounds.round import weights_digest

    deadlines = Deadlines(clients_s, train_s, stage_s)
    grpc_address = None if web is not None and web.is_alone else address
    web_address, pair = (None, NO_PAIR) if web is None else (web.address, (web.certificate, web.key))
    _require_free({"--listen": grpc_address, "--web": web_address, "--operator": operator_address})
    opened_door = contextlib.nullcontext() if web is None else open_door(web, keys)
    with operator_page(operator_address, run_path, keys, pair) as progress, opened_door as door:
        state = serve_run(
            folder,
            config,
            keys,
            grpc_address,
            deadlines,
            log,
            decryptor_address,
            helper_addresses=helper_addresses,
            web=door,
            progress=progress,
        )
    figures = {"rounds": state.round_num, "weights_sha256": weights_digest(state.model)}
    line = f"{run_path}: {count_text(state.round_num, 'round')}, weights {figures['weights_sha256']}"
    return Output(figures, partial(say, line))


def _require_free(places: Mapping[str, Optional[str]]) -> None:
    """Refuses ports that are taken, before phones are waited for. places: {option: its HOST:PORT, or None}."""
    from orchestrator.network.listening import require_free

    require_free((address, option) for option, address in places.items() if address is not None)


def _read_config(
    path: Optional[Path], preset: Optional[str], overrides: Mapping[str, Setting], keys: Path, num_phones: int
) -> RunConfig:
    from orchestrator.network.certificates import read_roster
    from orchestrator.network.serve import hidden_in_a_crowd
    from orchestrator.settings.files import read_config

    # Nobody tells a server how often each word occurs.
    config = read_config(path, preset, {**overrides, "model.start_from_word_counts": False})
    return hidden_in_a_crowd(config, len(read_roster(keys)) + num_phones)
