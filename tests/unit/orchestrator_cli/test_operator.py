"""The flag of the operator's page: where it listens, and that its address is said once."""

from __future__ import annotations

import re

import pytest
from click.testing import CliRunner
from web_peer import ask

from orchestrator.cli.commands import cli
from orchestrator.cli.operator import HERE, operator_page
from orchestrator.cli.web import NO_PAIR
from orchestrator.network.authority import make_keys


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    make_keys(folder, ["ann"], hosts=["keyboard.example"])
    return folder


def test_its_address_is_said_once_and_opens_the_page_in_the_report_s_colours(keys, tmp_path, capsys):
    with operator_page(HERE, tmp_path / "first", keys, NO_PAIR) as progress:
        assert progress.view().run == "first"
        (url,) = re.findall(r"http://localhost:\d+/[\w-]{43}/", capsys.readouterr().err)
        assert b"operator.js" in ask("GET", url)[2]
        assert b"--model: #" in ask("GET", f"{url}colours.css")[2]
    assert capsys.readouterr().err == ""


def test_for_other_machines_it_shows_the_server_s_certificate_and_names_its_host(keys, tmp_path, capsys):
    with operator_page("0.0.0.0:0", tmp_path, keys, NO_PAIR):
        pass
    assert "the operator's page is at https://keyboard.example:" in capsys.readouterr().err


def test_on_this_machine_a_certificate_for_phones_changes_nothing(keys, tmp_path, capsys):
    with operator_page(HERE, tmp_path, keys, (keys / "server.pem", keys / "server.key")):
        pass
    assert "the operator's page is at http://localhost:" in capsys.readouterr().err


def test_there_is_no_page_that_nobody_asked_for(keys, tmp_path, capsys):
    with operator_page(None, tmp_path, keys, NO_PAIR) as progress:
        assert progress is None
    assert capsys.readouterr().err == ""


def test_a_port_that_is_taken_is_named_before_anything_begins(keys, tmp_path):
    arguments = ["serve", "--run", str(tmp_path / "run"), "--keys", str(keys), "--listen", "localhost:0"]
    result = CliRunner().invoke(cli, [*arguments, "--operator", "nowhere.invalid:1"])
    assert result.exception is not None
    assert "choose another --operator" in str(result.exception)
    assert not (tmp_path / "run").exists()
