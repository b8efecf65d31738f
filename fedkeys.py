"""The start of the command line: fedkeys' own packages are imported, whatever else on the path has their names.

The packages are called models, edge, orchestrator and tff_pipelines, and so are folders of other people's. Python takes
the first on its path: whatever PYTHONPATH names comes before what is installed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Optional

PACKAGES = ("models", "tff_pipelines", "edge", "orchestrator")


class OwnPackages:
    """Finds the four packages beside this file, and leaves every other module to Python."""

    @staticmethod
    def find_spec(
        name: str, path: Optional[Sequence[str]] = None, target: Optional[ModuleType] = None
    ) -> Optional[ModuleSpec]:
        """Returns the spec of one of the packages, None for every other module (importlib.abc.MetaPathFinder)."""
        return PathFinder.find_spec(name, [str(Path(__file__).resolve().parent)]) if name in PACKAGES else None


def main() -> None:
    """Runs the command line."""
    sys.meta_path.insert(0, OwnPackages)
    from orchestrator.cli.app import main as run

    run()


if __name__ == "__main__":
    main()
