"""The commands of the parties whom a server must not collude with: decryptor, helper."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import click

from orchestrator.cli import options
from orchestrator.cli.output import log, silence_grpc


def fewest_of_roster(keys: Path, corrupt_share: Optional[float] = None) -> int:
    """Returns the fewest clients of a sum that holds two honest ones, whomever of the roster the server invites.

    Args:
      keys: a folder with roster.json.
      corrupt_share: the share of the roster that may collude with the server; None takes the settings' default.

    Raises:
      KeysError: there is no roster.
    """
    from orchestrator.network.certificates import read_roster
    from orchestrator.secagg.graph import fewest_survivors
    from orchestrator.settings.sections import AggregationConfig

    share = AggregationConfig().corrupt_share if corrupt_share is None else corrupt_share
    return fewest_survivors(len(read_roster(keys)), share)


def _say_whose_roster(keys: Path) -> None:
    from orchestrator.network.certificates import read_operator, read_signed_roster
    from orchestrator.network.roster import provenance

    log(provenance(read_signed_roster(keys), read_operator(keys)))


@click.command()
@options.KEYS
@options.listens("localhost:8444", "Where the server reaches the decryptor.")
@click.option(
    "--min-contributions",
    type=click.IntRange(2),
    help="Open only sums of at least this many vectors, whatever the server says. By default so many that two are "
    "honest clients', if aggregation.corrupt_share of the roster is not.",
)
@click.option("--poly-degree", type=int, default=4096, show_default=True, help="As aggregation.poly_degree.")
@click.option("--coeff-modulus-bits", type=int, default=56, show_default=True, help="As in the configuration.")
def decryptor(
    keys: Path, address: str, min_contributions: Optional[int], poly_degree: int, coeff_modulus_bits: int
) -> None:
    """Hold the key of the encrypted sum: open one sum per round, only of enough clients. It ends with Ctrl-C.

    Run it on a machine that the operator of the server does not control.

    \b
    Example:
      fedkeys decryptor --keys keys --listen localhost:8444
    """
    silence_grpc()
    from orchestrator.homomorphic.parameters import BfvParameters
    from orchestrator.network.decryptor import decryptor_service
    from orchestrator.network.listening import require_free

    try:
        parameters = BfvParameters(poly_degree, coeff_modulus_bits)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    require_free([(address, "--listen")])
    _say_whose_roster(keys)
    service = decryptor_service(keys, parameters, min_contributions or fewest_of_roster(keys), log)
    log(f"listening on {address.rpartition(':')[0]}:{service.listen(address)}")
    try:
        service.wait()
    finally:
        service.stop()


@click.command()
@options.KEYS
@click.option("--number", type=click.IntRange(1, 5), default=1, show_default=True, help="Which of the helpers it is.")
@options.listens("localhost:8445", "Where the server reaches the helper.")
@click.option(
    "--min-contributions",
    type=click.IntRange(2),
    help="Open only the masks of at least this many vectors, whatever the server says. By default so many that two are "
    "honest clients', if aggregation.corrupt_share of the roster is not.",
)
@click.option(
    "--opened",
    type=options.FILE,
    metavar="FILE",
    help="Keeps which rounds were opened: never lose it, never put an older one in its place.  "
    "[default: helper-N_opened.sqlite in --keys]",
)
def helper(keys: Path, number: int, address: str, min_contributions: Optional[int], opened: Optional[Path]) -> None:
    """Add up the masks of the split sum: of one list per round, only of enough clients. It ends with Ctrl-C.

    Run it on a machine that the operator of the server does not control.

    \b
    Example:
      fedkeys helper --keys keys --listen localhost:8445
    """
    silence_grpc()
    from orchestrator.network.certificates import helper_role
    from orchestrator.network.helper import helper_service
    from orchestrator.network.listening import require_free

    require_free([(address, "--listen")])  # before its file of opened rounds is made
    opened = opened or keys / f"{helper_role(number)}_opened.sqlite"
    _say_whose_roster(keys)
    service = helper_service(keys, number, opened, min_contributions, log)
    log(f"listening on {address.rpartition(':')[0]}:{service.listen(address)}")
    try:
        service.wait()
    finally:
        service.stop()
