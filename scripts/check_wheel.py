"""Checks that a wheel holds every file of the four packages and the command line's start, and nothing else.

Of the page for browsers it holds what `make web` built, if that was done, and never the sources.

python scripts/check_wheel.py dist/fedkeys-0.1.0-py3-none-any.whl
"""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WEB = "edge/clients/web/"
BUILT = f"{WEB}dist/"
PACKAGES = ("models", "tff_pipelines", "edge", "orchestrator", "fedkeys.py")


def tracked_files() -> set[str]:
    """Returns the tracked files that belong into a wheel, as paths from the project; those of git itself stay out."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--", *PACKAGES]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\0")
    return {path for path in listed if path and not path.endswith(".gitignore") and not path.startswith(WEB)}


def mistakes(in_wheel: set[str], in_project: set[str]) -> list[str]:
    """Returns a line for each file that is missing from the wheel or does not belong there.

    >>> mistakes({"edge/a.py", "x-1.dist-info/RECORD", "tests/t.py"}, {"edge/a.py", "edge/table.json"})
    ['edge/table.json is missing: name it in [options.package_data] of setup.cfg', 'tests/t.py does not belong there']
    """
    files = {path for path in in_wheel if ".dist-info/" not in path and not path.startswith(BUILT)}
    missing = [
        f"{path} is missing: name it in [options.package_data] of setup.cfg" for path in sorted(in_project - files)
    ]
    return missing + [f"{path} does not belong there" for path in sorted(files - in_project)]


def main(wheel: Path) -> int:
    """Returns the exit code: 0, or 1 after printing a line for each mistake."""
    in_project = tracked_files()
    with zipfile.ZipFile(wheel) as archive:
        found = mistakes(set(archive.namelist()), in_project)
    for mistake in found:
        print(f"{wheel.name}: {mistake}")
    print(f"{wheel.name}: {len(in_project)} files, {len(found)} mistakes")
    return 1 if found else 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(Path(sys.argv[1])))
