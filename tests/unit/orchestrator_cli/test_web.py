"""The flags of the door for browsers, and what is said of it."""

from __future__ import annotations

import socket
from pathlib import Path

import portpicker
import pytest
from click.testing import CliRunner

from orchestrator.cli.commands import cli
from orchestrator.cli.web import WebFlags, open_door
from orchestrator.errors import ConfigError
from orchestrator.network.authority import make_keys
from orchestrator.network.certificates import read_operator
from orchestrator.network.errors import KeysError, PortInUse
from orchestrator.network.tls import host_names


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    make_keys(folder, ["ann"], hosts=["keyboard.example", "192.0.2.7"])
    return folder


def flags(address="localhost:0", **changes):
    values = dict.fromkeys(("certificate", "key", "bundle", "codes"))
    return WebFlags(address, **{**values, "phones": 0, "is_alone": False, **changes})


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["--phones", "1"], "--phones is of the door for browsers"),
        (["--web-only"], "--web-only is of the door for browsers"),
        (["--web", "localhost:0", "--codes", "codes.txt"], "say how many there are by --phones"),
        (["--web", "localhost:0", "--web-key", "key.pem"], "go together"),
        (["--web", "localhost:0", "--phones", "1", "--resume"], "leave --phones out"),
    ],
)
def test_flags_that_do_not_go_together_are_named(tmp_path, arguments, what):
    result = CliRunner().invoke(cli, ["serve", "--run", str(tmp_path / "run"), *arguments])
    assert result.exit_code == 2
    assert what in result.output


def test_one_phone_gets_an_address_that_holds_its_code(keys, capsys):
    with open_door(flags(phones=1), keys) as door:
        assert door.lobby.num_clients == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "phone" in line]
    assert len(lines) == 1
    assert lines[0].startswith("the phone opens http://localhost:")
    code, _, operator = lines[0].partition("/#code=")[2].partition("&operator=")
    assert (len(code), operator) == (14, read_operator(keys).fingerprint)


def test_each_of_several_phones_gets_a_code_of_the_file(keys, tmp_path, capsys):
    codes = tmp_path / "codes.txt"
    codes.write_text("AAAA-BBBB-CCCC\nDDDD-EEEE-FFFF\n")
    with open_door(flags(phones=2, codes=codes), keys):
        pass
    said = capsys.readouterr().err
    assert "phone 1 enrols once at http://localhost:" in said
    assert "#code=AAAA-BBBB-CCCC&operator=" in said
    assert "#code=DDDD-EEEE-FFFF" in said


def test_for_other_machines_it_listens_with_the_server_s_certificate_and_names_its_host(keys, capsys):
    assert host_names(keys / "server.pem") == ["keyboard.example", "192.0.2.7"]
    with open_door(flags("0.0.0.0:0"), keys):
        pass
    assert "phones open https://keyboard.example:" in capsys.readouterr().err


def test_a_pair_that_is_none_opens_nothing(keys, tmp_path):
    pair = {"certificate": Path(keys / "ca.pem"), "key": Path(keys / "server.key")}
    with pytest.raises(KeysError, match="no certificate and its private key"), open_door(flags(**pair), keys):
        pass


@pytest.fixture
def taken():
    with socket.create_server(("127.0.0.1", 0)) as own:
        yield f"127.0.0.1:{own.getsockname()[1]}"


def run(*words):
    """The error that a command ends with, and what it said before."""
    done = CliRunner().invoke(cli, [*map(str, words)])
    return done.exception, done.output


@pytest.mark.parametrize("places", ["--listen", "--web", "one for both"])
def test_a_port_that_is_taken_is_found_before_phones_are_waited_for(keys, tmp_path, taken, places):
    free = f"127.0.0.1:{portpicker.pick_unused_port()}"
    listen, web = {"--listen": (taken, free), "--web": (free, taken), "one for both": (free, free)}[places]
    error, said = run(
        "serve", "--run", tmp_path / "run", "--keys", keys, "--listen", listen, "--web", web, "--phones", "2",
        "--codes", tmp_path / "codes.txt",
    )  # fmt: skip
    assert isinstance(error, PortInUse), error
    assert error.exit_code == 2
    option = "--listen" if places == "--listen" else "--web"
    assert str(error) == (
        f"can't listen on {taken if taken in (listen, web) else free}: "
        f"it is in use or not this machine's; choose another {option}"
    )
    assert said == ""
    assert not list(tmp_path.iterdir())


def test_a_server_for_browsers_alone_needs_no_other_port(keys, tmp_path, taken):
    words = (
        "serve",
        "--run",
        tmp_path / "run",
        "--keys",
        keys,
        "--listen",
        taken,
        "--web",
        "localhost:0",
        "--web-only",
    )
    error, _ = run(*words, "--cohort", "20")
    assert isinstance(error, ConfigError), "it went on to what comes after the ports"


def test_a_party_whose_port_is_taken_makes_no_file(keys, tmp_path, taken):
    error, _ = run("helper", "--keys", keys, "--listen", taken, "--opened", tmp_path / "opened.sqlite")
    assert isinstance(error, PortInUse), error
    assert not list(tmp_path.iterdir())
    error, _ = run("decryptor", "--keys", keys, "--listen", taken)
    assert isinstance(error, PortInUse), error
