"""The server: configuration, cohorts, aggregation, the training loop and the command line."""

from importlib.util import find_spec
from pathlib import Path


def _require_own_packages() -> None:
    """Refuses to go on with a package of somebody else's that has the name of one of ours.

    Raises:
      ImportError: it names the folder.
    """
    own = Path(__file__).resolve().parent.parent
    for name in ("models", "tff_pipelines", "edge"):
        spec = find_spec(name)
        found = (
            [Path(place).resolve() for place in spec.submodule_search_locations or [str(spec.origin)]] if spec else []
        )
        if found != [own / name]:
            where = ", ".join(map(str, found)) or "nowhere"
            raise ImportError(
                f"fedkeys needs its own package {name}, and Python finds {where} first: rename that, or take its "
                f"folder off PYTHONPATH; a script's own folder is on the path, too"
            )


_require_own_packages()
