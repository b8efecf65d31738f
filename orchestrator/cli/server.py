"""The commands around the server: what a sum costs, what the server saw, and rounds over real connections."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import click

from orchestrator.cli.options import JSON, RUN, note, print_json

_CLIENT_TEXT = "The client's text: FILE.txt, or any text that `fedkeys data` reads and that has this client."


_KEYS = click.option(
    "--keys",
    type=click.Path(path_type=Path),
    default=Path("keys"),
    show_default=True,
    metavar="DIR",
    help="What `fedkeys keygen` made.",
)


def add_commands(group: click.Group) -> None:
    """Adds this file's commands to the group."""
    for command in (costs, transcript, keygen, serve, client, decryptor):
        group.add_command(command)


@click.command()
@RUN
@JSON
def costs(run_path: Path, as_json: bool) -> None:
    """Show the bill of a run's sums, beside what the same sum costs under each aggregator, measured now.

    Bytes sent and received and CPU seconds, by stage, of a client, the server and the decryptor; the time
    that a client's part takes on three phones and five networks, estimated.
    """
    from orchestrator.cli.tables import print_costs
    from orchestrator.evaluation.costs import read_costs
    from orchestrator.run.folder import RunFolder

    figures = read_costs(RunFolder(run_path), note)
    if as_json:
        print_json(figures)
    else:
        print_costs(figures)


@click.command()
@RUN
@click.option(
    "--round",
    "round_num",
    type=click.IntRange(1),
    metavar="N",
    help="The round; by default the last that can be shown.",
)
@click.option("--client", "client_id", metavar="ID", help="Whose upload; by default the first survivor's.")
@JSON
def transcript(run_path: Path, round_num: Optional[int], client_id: Optional[str], as_json: bool) -> None:
    """Show what the server saw of one client in a round, next to what a plain server would have seen.

    The round is computed again from the checkpoint before it, which must still be there: a round that can't be shown
    is refused with the list of those that can. Keys are fresh, so masks and ciphertexts are others each time; the
    vector under them is the same. The figures are also kept in DIR/transcript.json, for `fedkeys report`.
    """
    from orchestrator.run.folder import RunFolder

    folder = RunFolder(run_path)
    folder.config()
    from orchestrator.audit.transcript import read_transcript
    from orchestrator.audit.transcript_results import write_transcript
    from orchestrator.cli.tables import print_transcript

    figures = read_transcript(folder, round_num, client_id, note)
    write_transcript(folder, figures)
    if as_json:
        for view in ("plain", "masked", "encrypted"):
            del figures[view]["picture"]  # thousands of bytes: they are in the file
        print_json(figures)
    else:
        print_transcript(figures)


@click.command()
@click.argument("signing_key", required=False, type=click.Path(path_type=Path), metavar="[FILE]")
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="Where the keys of a network run go.")
@click.option("--client", "clients", multiple=True, metavar="ID", help="Enrol this client; again for more of them.")
@click.option(
    "--people",
    type=click.IntRange(0),
    metavar="N",
    help="Enrol N training people of the built-in text, to try it on one machine. Without --client: 10.",
)
@click.option("--host", "hosts", multiple=True, metavar="NAME", help="A name of the server besides this machine's own.")
@JSON
def keygen(
    signing_key: Optional[Path],
    out: Optional[Path],
    clients: tuple[str, ...],
    people: Optional[int],
    hosts: tuple[str, ...],
    as_json: bool,
) -> None:
    """Make keys: FILE and FILE.pub to sign phone bundles, or with --out all that a network run needs.

    \b
    fedkeys keygen signing.key       FILE signs bundles (keep it secret), FILE.pub verifies them (give it to the app)
    fedkeys keygen --out keys        a CA, certificates for TLS, an identity for each client, the roster

    Called again for the same DIR it enrols more clients. Which file belongs on which machine: docs/network.md.
    """
    if (signing_key is None) == (out is None):
        raise click.UsageError("give FILE for a key to sign bundles, or --out DIR for the keys of a network run")
    if signing_key is not None:
        from edge.bundle.signing import generate_key

        click.echo(
            f"wrote {signing_key}, which signs (keep it secret), and {generate_key(signing_key)}, which verifies"
        )
        return
    assert out is not None
    from orchestrator.network.certificates import make_keys, read_roster

    if people is None and not clients:
        people = 10
    enrolled = read_roster(out) if (out / "roster.json").exists() else {}
    if people:
        from orchestrator.run.data import load_client_data
        from orchestrator.settings.run_config import RunConfig

        train = load_client_data(RunConfig())[1].train  # nobody whom an evaluation asks for
        talkers = (name for name, own in train.items() if len(own) >= _MIN_SENTENCES and name not in enrolled)
        clients += tuple([name for name in talkers if name not in clients][:people])
    make_keys(out, clients, hosts)
    roster = read_roster(out)
    if as_json:
        print_json({"keys": str(out), "clients": list(roster), "new": list(clients)})
    else:
        click.echo(f"{out}: {len(clients)} clients enrolled, {len(roster)} in all: {', '.join(roster)}")


_MIN_SENTENCES = 50


@click.command()
@RUN
@_KEYS
@click.option("--listen", "address", default="localhost:8443", show_default=True, metavar="HOST:PORT")
@click.option("--config", "config_path", type=click.Path(path_type=Path), metavar="FILE", help="See `fedkeys config`.")
@click.option("--preset", metavar="NAME", help="As in `fedkeys train`.")
@click.option("--data", "source", metavar="SPEC", help="The text that the word list comes from.")
@click.option("--rounds", type=int, metavar="N", help="Number of rounds.")
@click.option("--cohort", type=int, metavar="N", help="Clients a round.")
@click.option("--aggregator", metavar="NAME", help="secagg or encrypted.")
@click.option("--decryptor", "decryptor_address", metavar="HOST:PORT", help="Of `fedkeys decryptor`, for encrypted.")
@click.option("--wait", "clients_s", type=float, default=60.0, show_default=True, help="Seconds for a full cohort.")
@click.option("--train-timeout", "train_s", type=float, default=600.0, show_default=True, help="Seconds to train.")
@click.option("--stage-timeout", "stage_s", type=float, default=30.0, show_default=True, help="Seconds a message.")
@click.option("--resume", is_flag=True, help="Go on from the newest checkpoint, with the run's own configuration.")
@JSON
def serve(
    run_path: Path,
    keys: Path,
    address: str,
    config_path: Optional[Path],
    preset: Optional[str],
    source: Optional[str],
    rounds: Optional[int],
    cohort: Optional[int],
    aggregator: Optional[str],
    decryptor_address: Optional[str],
    clients_s: float,
    train_s: float,
    stage_s: float,
    resume: bool,
    as_json: bool,
) -> None:
    """Serve a run's rounds to `fedkeys client` processes, over gRPC with TLS. It ends after the last round.

    A client that is late or loses its connection has dropped out of the round; the round ends with the others.
    """
    from orchestrator.run.folder import RunFolder
    from orchestrator.settings.files import read_config

    folder = RunFolder(run_path)
    if resume:
        config = folder.config()
    else:
        from orchestrator.cli.options import absolute

        folder.require_free()
        overrides = {
            "data.source": absolute(source),
            "rounds.count": rounds,
            "rounds.cohort_size": cohort,
            "aggregation.aggregator": aggregator,
            "model.start_from_word_counts": False,  # nobody tells a server its counts
        }
        config = read_config(config_path, preset, overrides)
    from orchestrator.network.serve import serve as serve_run
    from orchestrator.network.session import Deadlines
    from orchestrator.rounds.round import weights_digest

    deadlines = Deadlines(clients_s, train_s, stage_s)
    state = serve_run(folder, config, keys, address, deadlines, _say, decryptor_address)
    figures = {"rounds": state.round_num, "weights_sha256": weights_digest(state.model)}
    if as_json:
        print_json(figures)
    else:
        click.echo(f"{run_path}: {state.round_num} rounds, weights {figures['weights_sha256']}")


@click.command()
@click.option("--server", required=True, metavar="HOST:PORT", help="Where `fedkeys serve` listens.")
@click.option("--data", "source", default="chitchat", show_default=True, metavar="SPEC", help=_CLIENT_TEXT)
@click.option("--client-id", required=True, metavar="ID", help="The name that it is enrolled under.")
@_KEYS
@click.option("--wait", "wait_s", type=float, default=30.0, show_default=True, help="Seconds to wait for the server.")
@click.option("--min-survivors", type=click.IntRange(2), default=2, show_default=True, help="Never summed with fewer.")
@click.option("--corrupt-share", type=float, help="secagg: as aggregation.corrupt_share; the server's must agree.")
@click.option("--dropout-share", type=float, help="secagg: as aggregation.dropout_share; the server's must agree.")
def client(
    server: str,
    source: str,
    client_id: str,
    keys: Path,
    wait_s: float,
    min_survivors: int,
    corrupt_share: Optional[float],
    dropout_share: Optional[float],
) -> None:
    """Take part in a server's rounds with one client's text, which stays here. Ends when the server says so.

    Exit 3: the server asked for something that could expose the client, so it refused.
    """
    import os

    from orchestrator.network.client import run_client
    from orchestrator.rounds.sums import secagg_policy
    from orchestrator.settings.sections import AggregationConfig

    defaults = AggregationConfig()
    aggregation = AggregationConfig(
        min_survivors=min_survivors,
        corrupt_share=defaults.corrupt_share if corrupt_share is None else corrupt_share,
        dropout_share=defaults.dropout_share if dropout_share is None else dropout_share,
    )
    for variable in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):  # many clients may share this machine
        os.environ.setdefault(variable, "1")
    click.echo(run_client(server, keys, client_id, source, secagg_policy(aggregation), wait_s))


@click.command()
@_KEYS
@click.option("--listen", "address", default="localhost:8444", show_default=True, metavar="HOST:PORT")
@click.option(
    "--min-contributions",
    type=click.IntRange(2),
    default=2,
    show_default=True,
    help="The fewest vectors in a sum that it opens, whatever the server says.",
)
@click.option("--poly-degree", type=int, default=4096, show_default=True, help="As aggregation.poly_degree.")
@click.option("--coeff-modulus-bits", type=int, default=56, show_default=True, help="As in the configuration.")
def decryptor(keys: Path, address: str, min_contributions: int, poly_degree: int, coeff_modulus_bits: int) -> None:
    """Hold the key of the encrypted sum: open one sum a round, only of enough clients. Ends with Ctrl-C."""
    from orchestrator.homomorphic.parameters import BfvParameters
    from orchestrator.network.decryptor import DecryptorService

    try:
        parameters = BfvParameters(poly_degree, coeff_modulus_bits)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    service = DecryptorService(keys, parameters, min_contributions, _say)
    _say(f"listening on {address.rpartition(':')[0]}:{service.listen(address)}")
    try:
        service.wait()
    finally:
        service.stop()


def _say(text: str) -> None:
    click.echo(text, err=True)
