"""What the demo's model remembers: a short copy of its run is trained with secret phrases in the text, and audited."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Callable, Optional

from orchestrator.cli.output import Output, note

if TYPE_CHECKING:
    from orchestrator.run.saved import Run
    from orchestrator.settings.run_config import RunConfig
    from tff_pipelines.runtime import Runtime

_PHRASES = 8  # of each sort


def remembered_output(run: Run, copy_path: Path, runtime: Callable[[], Runtime]) -> Optional[Output]:
    """Returns what `fedkeys audit` finds of a run and of a short copy of it with phrases; None if none can be trained.

    The copy is not for use; a second call goes on with it.

    Args:
      run: of the demo, trained.
      copy_path: the folder of the copy.
      runtime: gives the workers.

    Raises: as train and audit_run; what fits together no more is said in a note.
    """
    from orchestrator.cli.audit import audit_output
    from orchestrator.errors import ConfigError, RunFolderError
    from orchestrator.run.planted import short_copy

    config = run.config
    if config.audit.phrases:
        return audit_output(run, None, None)
    if config.privacy.traits.adds_noise:
        note("no phrases are planted: under differential privacy a copy would be another release about the same people")
        return None
    try:
        return audit_output(run, None, _train_copy(run, short_copy(config, _PHRASES), copy_path, runtime))
    except (ConfigError, RunFolderError) as error:  # the copy of another run is there, or this one's start is gone
        note(str(error))
        return None


def _train_copy(run: Run, config: RunConfig, path: Path, runtime: Callable[[], Runtime]) -> Run:
    """Trains the copy to its end, on the run's text, which was read already."""
    from orchestrator.cli.console import ProgressObserver
    from orchestrator.run.data import Text
    from orchestrator.run.folder import RunFolder
    from orchestrator.run.planted import plant_phrases
    from orchestrator.run.saved import read_run
    from orchestrator.run.training import Parts, train

    folder = RunFolder(path)
    text = Text(run.text.corpus, plant_phrases(config, run.text.data))
    with ProgressObserver(folder) as observer:
        train(folder, config, text, observer, resume=True, parts=Parts(runtime=runtime()))
    return read_run(folder).with_text(text)
