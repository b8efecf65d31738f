"""What `fedkeys forget` asks for, before it reads a run's text."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from orchestrator.cli.commands import cli

OLD_RUN = Path(__file__).resolve().parents[2] / "data" / "run_of_0_1" / "run"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([], "--client says whom to forget: add it, or --check"),
        (["--client", "ann", "--public-key", "key.pub"], "--public-key is for --check: add it"),
        (["--client", "ann", "--check"], "--check writes nothing: leave --client, --out, --key and --keep out"),
        (["--check", "--keep", "3"], "--check writes nothing"),
        (["--client", "ann", "--keep", "0"], "'--keep': 0 is not in the range x>=1"),
    ],
)
def test_a_call_that_cannot_be_meant_is_refused(words: list[str], complaint: str) -> None:
    done = CliRunner().invoke(cli, ["forget", "--run", str(OLD_RUN), *words], prog_name="fedkeys")
    assert done.exit_code == 2
    assert complaint in " ".join(done.output.split())
