"""The commands about this machine and the settings: doctor, config, worker."""

from __future__ import annotations

import sys
from typing import Optional

import click

from orchestrator.cli.options import PRESET
from orchestrator.cli.output import Output, prints, say_at_once


@click.command()
@prints
def doctor() -> Output:
    """Check this machine: Python, packages, TFF worker, ports, memory, disk, text.

    Exits with 0 only if everything is well; each fault is named with what to do about it.

    \b
    Examples:
      fedkeys doctor
      fedkeys doctor --json
    """
    from orchestrator.cli.doctor import run_checks

    checks = []
    for check in run_checks():
        checks.append(check)
        say_at_once(f"{'ok  ' if check.ok else 'FAIL'} {check.name}: {check.detail}")  # the last one takes its time
    ok = all(check.ok for check in checks)
    return Output({"ok": ok, "checks": checks}, lambda: None, exit_code=0 if ok else 2)


@click.command()
@PRESET
def config(preset: Optional[str]) -> None:
    """Print every setting with its meaning, range and default, as a TOML file to start from.

    With --preset the values are those of the preset.

    \b
    Examples:
      fedkeys config > settings.toml      # change it, then
      fedkeys train --run runs/own --config settings.toml
      fedkeys config --preset private     # what a preset sets
    """
    from orchestrator.settings.describe import describe_config
    from orchestrator.settings.files import read_config

    if preset is None:
        click.echo(describe_config())
    else:
        click.echo(describe_config(read_config(preset=preset), f"the values of the preset {preset}"))


@click.command()
@click.option("--port", type=click.IntRange(1, 65535), default=8000, show_default=True, help="Port to listen on.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="Threads of the worker.")
def worker(port: int, threads: int) -> None:
    """Run one TFF worker here, for `fedkeys train --workers HOST:PORT` elsewhere. It ends with Ctrl-C.

    TFF's worker listens on ALL interfaces, without TLS, and runs whatever graph it is sent. Close the port to others
    with a firewall, and reach it through a tunnel.

    \b
    Example, the first line there and the others on the machine that trains:
      fedkeys worker --port 8000
      ssh -N -L 8000:localhost:8000 THAT_HOST
      fedkeys train --run runs/far --workers localhost:8000
    """
    from tff_pipelines.worker_process import run_worker

    sys.exit(run_worker(port, threads))
