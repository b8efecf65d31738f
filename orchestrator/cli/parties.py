"""The commands of the parties whom a server must not collude with: decryptor, helper."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import click

from orchestrator.cli import options
from orchestrator.cli.output import log


@click.command()
@options.KEYS
@click.option(
    "--listen",
    "address",
    default="localhost:8444",
    show_default=True,
    metavar="HOST:PORT",
    help="Where the server reaches the decryptor.",
)
@click.option(
    "--min-contributions",
    type=click.IntRange(2),
    default=2,
    show_default=True,
    help="Open only sums of at least this many vectors, whatever the server says.",
)
@click.option("--poly-degree", type=int, default=4096, show_default=True, help="As aggregation.poly_degree.")
@click.option("--coeff-modulus-bits", type=int, default=56, show_default=True, help="As in the configuration.")
def decryptor(keys: Path, address: str, min_contributions: int, poly_degree: int, coeff_modulus_bits: int) -> None:
    """Hold the key of the encrypted sum: open one sum per round, only of enough clients. It ends with Ctrl-C.

    Run it on a machine that the operator of the server does not control.

    \b
    Example:
      fedkeys decryptor --keys keys --listen localhost:8444
    """
    from orchestrator.homomorphic.parameters import BfvParameters
    from orchestrator.network.decryptor import DecryptorService

    try:
        parameters = BfvParameters(poly_degree, coeff_modulus_bits)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    service = DecryptorService(keys, parameters, min_contributions, log)
    log(f"listening on {address.rpartition(':')[0]}:{service.listen(address)}")
    try:
        service.wait()
    finally:
        service.stop()


@click.command()
@options.KEYS
@click.option("--number", type=click.IntRange(1, 5), default=1, show_default=True, help="Which of the helpers it is.")
@click.option(
    "--listen",
    "address",
    default="localhost:8445",
    show_default=True,
    metavar="HOST:PORT",
    help="Where the server reaches the helper.",
)
@click.option(
    "--min-contributions",
    type=click.IntRange(2),
    default=2,
    show_default=True,
    help="Open only the masks of at least this many vectors, whatever the server says.",
)
@click.option(
    "--opened",
    type=options.FILE,
    metavar="FILE",
    help="Keeps which rounds were opened: never lose it, never put an older one in its place.  "
    "[default: helper-N_opened.sqlite in --keys]",
)
def helper(keys: Path, number: int, address: str, min_contributions: int, opened: Optional[Path]) -> None:
    """Add up the masks of the split sum: of one list per round, only of enough clients. It ends with Ctrl-C.

    Run it on a machine that the operator of the server does not control.

    \b
    Example:
      fedkeys helper --keys keys --listen localhost:8445
    """
    from orchestrator.network.certificates import helper_role
    from orchestrator.network.helper import HelperService

    opened = opened or keys / f"{helper_role(number)}_opened.sqlite"
    service = HelperService(keys, number, opened, min_contributions, log)
    log(f"listening on {address.rpartition(':')[0]}:{service.listen(address)}")
    try:
        service.wait()
    finally:
        service.stop()
