"""The command of a client of rounds over real connections: client."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Optional

import click
import msgspec

from orchestrator.cli import options
from orchestrator.cli.output import log, say
from orchestrator.cli.parties import fewest_of_roster


def _agreed(flag: str, kind: click.ParamType) -> options.Option:
    """Returns an option that must be as the server's setting of the same name."""
    setting = flag.lstrip("-").replace("-", "_")
    return click.option(flag, type=kind, help=f"secagg: as aggregation.{setting}; the server's must agree.")


@click.command()
@click.option("--server", required=True, metavar="HOST:PORT", help="Where `fedkeys serve` listens.")
@options.text_source("The client's text: FILE.txt, or any text that `fedkeys data` reads and that has this client.")
@click.option("--client-id", required=True, metavar="ID", help="The name under which the client is enrolled.")
@options.KEYS
@click.option(
    "--bundle",
    type=options.FOLDER,
    metavar="DIR",
    help="Train through the C library with this bundle, exported from a run of the same model, and without TensorFlow.",
)
@click.option(
    "--state",
    type=options.FILE,
    metavar="FILE",
    help="Where the client keeps which rounds it answered; state/ID.json in --keys by default.",
)
@options.seconds("--wait", 30.0, "Seconds to wait for the server.", "wait_s")
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
@options.seconds(
    "--answer-step",
    1.0,
    "Answer whole steps of this many seconds after the server asked, so that it can't tell how much was typed.",
)
@options.seconds(
    "--patience",
    3600.0,
    "Give up after this many seconds without a message of the server.",
    "patience_s",
    above_zero=True,
)
@_agreed("--corrupt-share", options.Number(0.0, 1.0, max_open=True))
@_agreed("--dropout-share", options.Number(0.0, 1.0, max_open=True))
@_agreed("--complete-up-to", click.IntRange(0, 1 << 20))
def client(
    server: str,
    source: str,
    client_id: str,
    keys: Path,
    bundle: Optional[Path],
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
    Examples:
      fedkeys client --server localhost:8443 --keys keys --client-id ann --data ann.txt
      fedkeys client --server localhost:8443 --keys keys --client-id ann --data ann.txt --bundle phone
    """
    if bundle is None and importlib.util.find_spec("tensorflow") is None:
        raise click.UsageError("TensorFlow is not installed here: name a bundle by --bundle, to train through LiteRT")
    from orchestrator.network.bundle_trainer import bundle_trainer
    from orchestrator.network.certificates import read_identity
    from orchestrator.network.client_process import run_client
    from orchestrator.network.demands import Demands
    from orchestrator.network.pace import Pace
    from orchestrator.rounds.sums import secagg_policy
    from orchestrator.settings.sections import AggregationConfig

    shares = {"corrupt_share": corrupt_share, "dropout_share": dropout_share, "complete_up_to": complete_up_to}
    aggregation = msgspec.structs.replace(
        AggregationConfig(), **{name: value for name, value in shares.items() if value is not None}
    )
    read_identity(keys, client_id)  # the first that can be missing
    trainer = None if bundle is None else bundle_trainer(bundle)
    least = min_survivors or fewest_of_roster(keys, aggregation.corrupt_share)
    aggregation = msgspec.structs.replace(aggregation, min_survivors=least)
    for variable in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):  # many clients may share this machine
        os.environ.setdefault(variable, "1")
    demands = Demands(secagg_policy(aggregation), aggregator, max_minutes=max_minutes, max_memory_mib=max_memory)
    pace = Pace(answer_step, log)
    say(run_client(server, keys, client_id, source, demands, wait_s, pace, patience_s, state, log, trainer))
