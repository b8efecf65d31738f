"""The commands of rounds over real connections: serve, client."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Optional

import click
import msgspec

from models.chitchat import BUILT_IN
from orchestrator.cli import options
from orchestrator.cli.operator import OPERATOR, operator_page
from orchestrator.cli.output import Output, log, prints, say, silence_grpc
from orchestrator.cli.parties import fewest_of_roster
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
@click.option(
    "--listen",
    "address",
    default="localhost:8443",
    show_default=True,
    metavar="HOST:PORT",
    help="Where clients reach the server.",
)
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
@click.option(
    "--wait",
    "clients_s",
    type=options.Number(0.0),
    default=60.0,
    show_default=True,
    help="Seconds to wait for a full cohort.",
)
@click.option(
    "--train-timeout",
    "train_s",
    type=options.Number(0.0),
    default=600.0,
    show_default=True,
    help="Seconds that a client may train.",
)
@click.option(
    "--stage-timeout",
    "stage_s",
    type=options.Number(0.0),
    default=30.0,
    show_default=True,
    help="Seconds to wait for a message.",
)
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


@click.command()
@click.option("--server", required=True, metavar="HOST:PORT", help="Where `fedkeys serve` listens.")
@click.option(
    "--data",
    "source",
    default=BUILT_IN,
    show_default=True,
    metavar="SPEC",
    help="The client's text: FILE.txt, or any text that `fedkeys data` reads and that has this client.",
)
@click.option("--client-id", required=True, metavar="ID", help="The name under which the client is enrolled.")
@options.KEYS
@click.option(
    "--state",
    type=options.FILE,
    metavar="FILE",
    help="Where the client keeps which rounds it answered; state/ID.json in --keys by default.",
)
@click.option(
    "--wait",
    "wait_s",
    type=options.Number(0.0),
    default=30.0,
    show_default=True,
    help="Seconds to wait for the server.",
)
@click.option(
    "--min-survivors",
    type=click.IntRange(2),
    help="Take part only in sums of at least this many clients. By default so many that two of them are honest, if "
    "--corrupt-share of the roster is not.",
)
@click.option(
    "--aggregator",
    default="secagg",
    show_default=True,
    metavar="NAME",
    help="Take part only in this kind of sum, whatever the server says: secagg, encrypted or split.",
)
@click.option(
    "--max-minutes",
    type=options.Number(0.0, min_open=True),
    default=30.0,
    show_default=True,
    help="Refuse runs whose rounds may take more training, at a billion operations a second.",
)
@click.option(
    "--max-memory",
    type=click.IntRange(1),
    default=4096,
    show_default=True,
    metavar="MIB",
    help="Refuse runs that may take more memory.",
)
@click.option(
    "--answer-step",
    type=options.Number(0.0),
    default=1.0,
    show_default=True,
    help="Answer whole steps of this many seconds after the server asked, so that it can't tell how much was typed.",
)
@click.option(
    "--patience",
    "patience_s",
    type=options.Number(0.0, min_open=True),
    default=3600.0,
    show_default=True,
    help="Give up after this many seconds without a message of the server.",
)
@click.option(
    "--corrupt-share",
    type=options.Number(0.0, 1.0, max_open=True),
    help="secagg: as aggregation.corrupt_share; the server's must agree.",
)
@click.option(
    "--dropout-share",
    type=options.Number(0.0, 1.0, max_open=True),
    help="secagg: as aggregation.dropout_share; the server's must agree.",
)
@click.option(
    "--complete-up-to",
    type=click.IntRange(0, 1 << 20),
    help="secagg: as aggregation.complete_up_to; the server's must agree.",
)
def client(
    server: str,
    source: str,
    client_id: str,
    keys: Path,
    state: Optional[Path],
    wait_s: float,
    min_survivors: Optional[int],
    aggregator: str,
    max_minutes: float,
    max_memory: int,
    answer_step: float,
    patience_s: float,
    corrupt_share: Optional[float],
    dropout_share: Optional[float],
    complete_up_to: Optional[int],
) -> None:
    """Take part in a server's rounds with one client's text, which stays here. It ends when the server says so.

    Exits with 3 if the server asked for something that could expose the client: the client refused.

    \b
    Example:
      fedkeys client --server localhost:8443 --keys keys --client-id ann --data ann.txt
    """
    from orchestrator.network.certificates import read_identity
    from orchestrator.network.client import run_client
    from orchestrator.network.demands import Demands
    from orchestrator.network.pace import Pace
    from orchestrator.rounds.sums import secagg_policy
    from orchestrator.settings.sections import AggregationConfig

    shares = {"corrupt_share": corrupt_share, "dropout_share": dropout_share, "complete_up_to": complete_up_to}
    aggregation = msgspec.structs.replace(
        AggregationConfig(), **{name: value for name, value in shares.items() if value is not None}
    )
    read_identity(keys, client_id)  # the first that can be missing
    least = min_survivors or fewest_of_roster(keys, aggregation.corrupt_share)
    aggregation = msgspec.structs.replace(aggregation, min_survivors=least)
    for variable in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):  # many clients may share this machine
        os.environ.setdefault(variable, "1")
    demands = Demands(secagg_policy(aggregation), aggregator, max_minutes=max_minutes, max_memory_mib=max_memory)
    pace = Pace(answer_step, log)
    say(run_client(server, keys, client_id, source, demands, wait_s, pace, patience_s, state, log))
