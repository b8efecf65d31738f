"""Seconds and memory of a fleet's virtual day by its size, each size in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys

import click

_SIZES = "100000,1000000"


@click.command()
@click.option("--sizes", default=_SIZES, show_default=True, help="Phones, with commas between.")
@click.option("--hours", default=24, show_default=True, help="Virtual hours.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON list on standard output.")
def main(sizes: str, hours: int, as_json: bool) -> None:
    """Time `fedkeys fleet --preset gboard-2018`: ten times the phones should cost at most twelve times the time."""
    rows = []
    for size in sizes.split(","):
        rows.append(_measure(int(size), hours))
        if not as_json:
            row = rows[-1]
            click.echo(f"{row['devices']:>12,} phones  {row['wall_s']:8.1f} s  {row['peak_rss_mib']:8.0f} MiB")
    if as_json:
        click.echo(json.dumps(rows))


def _measure(num_devices: int, hours: int) -> dict[str, float]:
    command = [sys.executable, "-m", "orchestrator.cli", "fleet", "--preset", "gboard-2018", "--json"]
    command += ["--devices", str(num_devices), "--hours", str(hours)]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=True)
    figures = json.loads(done.stdout)
    assert sum(figures["check_ins"].values()) > 0
    return {name: figures[name] for name in ("devices", "hours", "wall_s", "peak_rss_mib", "rounds")}


if __name__ == "__main__":
    main()
