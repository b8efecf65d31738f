"""`fedkeys phone-demo`: rounds of secure aggregation between one phone and four clients of this machine."""

from __future__ import annotations

import contextlib
import secrets
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Optional

import click

from orchestrator.cli import options
from orchestrator.cli.operator import HERE, operator_page
from orchestrator.cli.output import Output, log, note, prints, say, silence_grpc
from orchestrator.cli.web import WebFlags, open_door, pair_of, takes_pair
from orchestrator.units import count_text

if TYPE_CHECKING:
    from orchestrator.network.lobby import Lobby
    from orchestrator.run.folder import RunFolder
    from orchestrator.settings.run_config import RunConfig
    from orchestrator.settings.types import Setting

_PROGRAM = Path(__file__).resolve().parents[2] / "fedkeys.py"  # beside the packages, installed or not
_NUM_CLIENTS = 4  # of this machine
_DEADLINES_S = (600.0, 600.0, 60.0)  # a person has the phone in the hand
_QUICK_ROUNDS = 20  # of the model that is made where there is none
# Five people's text improves a model that is trained, or spoils it if a round goes far: steps as a phone takes alone.
_GENTLE: Mapping[str, Setting] = {
    "client.learning_rate": 0.3,
    "client.schedule": "constant",
    "server.algorithm": "fedavg",
    "server.learning_rate": 1.0,
    "server.schedule": "constant",
    "server.warmup_rounds": 0,
}


@dataclass(frozen=True)
class _Place:
    """The folders of a demo. path: of all of them."""

    path: Path

    @property
    def keys(self) -> Path:
        """The keys of the server and of the clients of this machine."""
        return self.path / "keys"

    @property
    def run(self) -> RunFolder:
        """The run whose rounds the phone takes part in."""
        from orchestrator.run.folder import RunFolder

        return RunFolder(self.path / "run")


@click.command("phone-demo")
@click.option(
    "--run",
    "model_path",
    type=options.FOLDER,
    default=Path("runs/demo"),
    show_default=True,
    metavar="DIR",
    help="The run whose words and model the phone gets; where there is none, a small one is made.",
)
@click.option(
    "--out",
    type=options.FOLDER,
    default=Path("runs/phone"),
    show_default=True,
    metavar="DIR",
    help="Where the demo's keys and rounds go. A demo that was stopped goes on there.",
)
@click.option(
    "--web",
    "address",
    default="localhost:8080",
    show_default=True,
    metavar="HOST:PORT",
    help="Where the phone reaches the page: on localhost with plain HTTP, elsewhere with TLS.",
)
@takes_pair
@click.option(
    "--operator",
    "operator_address",
    default=HERE,
    show_default=True,
    metavar="HOST:PORT",
    help="Where the operator's page is, which shows the rounds live; port 0 takes a free one.",
)
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, metavar="N", help="Number of rounds.")
@prints
def phone_demo(
    model_path: Path,
    out: Path,
    address: str,
    web_certificate: Optional[Path],
    web_key: Optional[Path],
    operator_address: str,
    rounds: int,
) -> Output:
    """Take part in secure rounds with your phone, or with a browser of this machine.

    Opens a page, with an address and a QR code to it, on which one phone enrols. Then four clients of this machine,
    with texts of the built-in corpus, start beside it, and all five take part in rounds of secure aggregation. It ends
    after the last round, and whatever it started ends with it.

    \b
    Examples:
      fedkeys phone-demo                       # open the address in a browser of this machine
      fedkeys phone-demo --web 0.0.0.0:8443 --web-certificate chain.pem --web-key key.pem
    """
    import portpicker

    from orchestrator.network.certificates import read_roster

    silence_grpc()
    pair = pair_of(web_certificate, web_key)
    place = _Place(out)
    _require_ready(place, [(address, "--web"), (operator_address, "--operator")])
    model = _model(model_path, place)
    bundle = _bundle(model, place)
    names = _enrolled_here(place.keys)
    config = _config(model, place, rounds, len(names) + 1)
    if config.rounds.count != rounds:
        note(f"{place.path} goes on with the {count_text(config.rounds.count, 'round')} that it began with")
    has_phone = len(read_roster(place.keys)) > len(names)
    flags = WebFlags(address, *pair, bundle, 0 if has_phone else 1, None, False)
    from orchestrator.network.serve import serve
    from orchestrator.network.session import Deadlines

    grpc_address = f"localhost:{portpicker.pick_unused_port()}"
    commands = {name: _command(place, grpc_address, name) for name in names}
    page, deadlines = operator_page(operator_address, place.path, place.keys, pair), Deadlines(*_DEADLINES_S)
    with page as progress, open_door(flags, place.keys) as door, clients_beside(door.lobby, commands, place.path):
        state = serve(place.run, config, place.keys, grpc_address, deadlines, log, web=door, progress=progress)
    figures = {"run": str(place.run.path), "rounds": state.round_num, "clients": len(names) + 1}
    line = f"{place.run.path}: {count_text(state.round_num, 'round')}; `fedkeys costs --run {place.run.path}` says more"
    return Output(figures, lambda: say(line))


def _require_ready(place: _Place, ports: Sequence[tuple[str, str]]) -> None:
    """Refuses what would fail later, before anything takes time. ports: each HOST:PORT with the option of its name."""
    from edge.clients.web_page import NO_PAGE, page_folder
    from edge.errors import EdgeError
    from orchestrator.errors import RunFolderError
    from orchestrator.network.listening import require_free

    if page_folder() is None:
        raise EdgeError(NO_PAGE)
    require_free(ports)
    if place.run.exists():
        from orchestrator.run.saved import read_run

        run = read_run(place.run)
        if len(run.rounds) >= run.config.rounds.count:
            raise RunFolderError(f"{place.path} holds a demo that is over: name another --out, or delete it")


def _model(path: Path, place: _Place) -> RunFolder:
    """The run that words and model come from."""
    from orchestrator.cli.training import train_with_progress
    from orchestrator.run.folder import RunFolder
    from orchestrator.run.saved import read_run
    from orchestrator.settings.files import read_config

    found, own = RunFolder(path), RunFolder(place.path / "model")
    if found.exists():
        read_run(found).require_rounds()
        return found
    config = read_config(preset="smoke", overrides={"rounds.count": _QUICK_ROUNDS})
    if not own.exists() or len(own.rounds()) < _QUICK_ROUNDS:
        note(f"{path} holds no run: training a small model for {_QUICK_ROUNDS} rounds into {own.path}")
        train_with_progress(own, config, resume=True)
    return own


def _bundle(model: RunFolder, place: _Place) -> Path:
    """The bundle of a run: the one beside its folder, or one that is made, if that is none for browsers."""
    from edge.bundle.folder import open_bundle
    from edge.export.tflite import FIXED_SIGNATURE, TRAIN_FILE
    from orchestrator.release.export import ExportOptions, export_run
    from orchestrator.run.saved import read_run

    own = place.path / "bundle"
    for bundle in (model.path.with_name(f"{model.path.name}-bundle"), own):
        # A damaged one is told, not replaced in silence; one of before browsers could train is passed over.
        if bundle.exists() and FIXED_SIGNATURE in open_bundle(bundle)[0].signatures.get(TRAIN_FILE, {}):
            return bundle
    note(f"exporting {model.path} for the phone into {own}")
    export_run(read_run(model), own, ExportOptions(parity=False, force=True), note)
    return own


def _enrolled_here(keys: Path) -> list[str]:
    """The clients of this machine; makes the keys of all parties if there are none."""
    from orchestrator.cli.keys import training_people
    from orchestrator.network.authority import make_keys

    if not (keys / "roster.json").exists():
        note("making the keys of the server and of four clients")
        make_keys(keys, training_people(_NUM_CLIENTS, set()))
    return sorted(path.stem for path in (keys / "clients").glob("*.key"))


def _config(model: RunFolder, place: _Place, rounds: int, num_clients: int) -> RunConfig:
    """The settings of the rounds: those of the model's run, with its words, its weights and a cohort of all."""
    from orchestrator.network.serve import hidden_in_a_crowd
    from orchestrator.run.saved import read_run
    from orchestrator.settings.files import read_config

    if place.run.exists():
        return read_run(place.run).config
    overrides: dict[str, Optional[Setting]] = {
        **_GENTLE,
        "data.vocabulary": str((model.path / "vocabulary.txt").resolve()),
        "model.start": str(model.path.resolve()),
        "aggregation.aggregator": "secagg",
        "rounds.count": rounds,
        "rounds.cohort_size": num_clients,
        "seed": secrets.randbelow(1 << 31),  # a phone that took part in another demo answers no round of its seed
    }
    return hidden_in_a_crowd(read_config(model.config_path, overrides=overrides, of_run=True), num_clients)


def _command(place: _Place, server: str, name: str) -> list[str]:
    """What starts a client of this machine."""
    command = [sys.executable, _PROGRAM, "client", "--server", server, "--keys", place.keys, "--client-id", name]
    return [*map(str, command), "--wait", "300"]


@contextlib.contextmanager
def clients_beside(lobby: Optional[Lobby], commands: Mapping[str, Sequence[str]], logs: Path) -> Iterator[None]:
    """Runs clients in processes of their own, once the lobby is closed; they end with the block, or with this process.

    Args:
      lobby: what they wait for; None starts them at once.
      commands: what starts each, by the client's name.
      logs: a folder for what each prints, NAME.log.
    """
    stop, processes = threading.Event(), dict[str, subprocess.Popen[bytes]]()
    lock = threading.Lock()

    def run() -> None:
        if lobby is not None:
            lobby.wait()
        with lock:
            if not stop.is_set():
                log(f"starting {count_text(len(commands), 'client')} of this machine: {', '.join(commands)}")
                processes.update({name: _start(command, logs / f"{name}.log") for name, command in commands.items()})
        # This thread stays as long as they do: Linux ends them with the thread that started them.
        for name, process in processes.items():
            if process.wait() and not stop.is_set():
                log(f"client {name} ended with exit code {process.returncode}: see {logs / name}.log")

    threading.Thread(target=run, name="clients", daemon=True).start()
    try:
        yield
    finally:
        with lock:
            stop.set()
        for process in processes.values():
            process.terminate()
        for process in processes.values():
            process.wait()


def _start(command: Sequence[str], output: Path) -> subprocess.Popen[bytes]:
    from tff_pipelines.worker_process import ended_with_parent

    with open(output, "ab") as file:
        return subprocess.Popen(
            ended_with_parent(command), stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT
        )
