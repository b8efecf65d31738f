"""The report's section on phones that somebody measured with the page for browsers, beside the estimates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Optional

from edge.on_device.estimates import SOURCE, estimate_train_steps
from edge.on_device.phone_figures import Device, PhoneFigures, Times, TrainStepTimes, read_phone_figures
from orchestrator.errors import RunFolderError
from orchestrator.report.parts import Section, Table
from orchestrator.report.view import RunView
from orchestrator.rounds.build import model_size
from orchestrator.units import count_text
from orchestrator.wire import as_one_line

PHONES_FOLDER = "phones"  # of a run: a person puts there what phones saved
_MAX_FILES = 100


def phones(run: RunView) -> Optional[Section]:
    """Shows how fast the run's model is on the phones whose files lie in DIR/phones; None where there is no file."""
    measured = _read_all(run.path / PHONES_FOLDER)
    if not measured:
        return None
    sizes = sorted({step.sentences for own in measured.values() for step in own.train_step_ms})
    others = sum(own.weights != run.identity.num_weights for own in measured.values())
    paragraphs = (
        f"Measured, by whoever sent it: {count_text(len(measured), 'file')} that the page for browsers saved. Nobody "
        "has checked them. Each time is the median of its runs in one browser, on one thread.",
        *([f"Of another model than this run's: {others}, by the number of weights."] if others else []),
    )
    return Section("How fast are phones?", paragraphs, (), (_measured(measured, sizes), *_estimated(run, sizes)))


def _measured(measured: Mapping[str, PhoneFigures], sizes: Sequence[int]) -> Table:
    return Table(
        ("measured on", "weights", *_steps(sizes), "key stroke", "load"),
        tuple(
            (
                _name(own.device, file),
                f"{own.weights:,}",
                *(_median(_of_size(own.train_step_ms, size)) for size in sizes),
                _median(own.key_stroke_ms[0] if own.key_stroke_ms else None),
                _ms_text(own.load_ms.library + own.load_ms.infer + own.load_ms.train),
            )
            for file, own in measured.items()
        ),
        "Devices by the names that their browsers gave. A step trains a batch of fixed size, whose other rows are "
        "empty. Key stroke: three suggestions after one. Load: LiteRT and both models.",
    )


def _estimated(run: RunView, sizes: Sequence[int]) -> Sequence[Table]:
    """One table of estimates for the same steps of the run's model; none where no step was measured."""
    if not sizes:
        return ()
    size = model_size(run.config.model, run.run.vocabulary.size)
    estimates = estimate_train_steps(size, run.config.data.max_words, sizes)
    rows = tuple(
        (tier, *(f"{low:,.0f} to {high:,.0f} ms" for low, high in (row.tiers_ms[tier] for row in estimates)))
        for tier in estimates[0].tiers_ms
    )
    columns = ("estimated for phones of the tier", *_steps(sizes))
    return (Table(columns, rows, f"For comparison, not measured here: {SOURCE}."),)


def _steps(sizes: Sequence[int]) -> Sequence[str]:
    return [f"step of {count_text(size, 'sentence')}" for size in sizes]


def _read_all(folder: Path) -> dict[str, PhoneFigures]:
    """Returns {name of a file: what it holds}.

    Raises:
      DeviceDataError: see read_phone_figures.
      RunFolderError: there are more files than a page can show.
    """
    files = sorted(folder.glob("*.json"))
    if len(files) > _MAX_FILES:
        raise RunFolderError(f"{folder} holds {len(files)} files, {_MAX_FILES} are shown: move some elsewhere")
    return {file.stem: read_phone_figures(file) for file in files}


def _name(device: Device, file: str) -> str:
    """What to call a device: its model; where the browser gives none, as on desktops, its platform and the file."""
    name = device.model or " ".join(filter(None, (device.platform, device.architecture, f"({file})")))
    return as_one_line(name)


def _of_size(steps: Sequence[TrainStepTimes], sentences: int) -> Optional[TrainStepTimes]:
    return next((step for step in steps if step.sentences == sentences), None)


def _median(times: Optional[Times]) -> str:
    return "" if times is None else _ms_text(times.p50)


def _ms_text(milliseconds: float) -> str:
    """
    >>> _ms_text(2.345), _ms_text(1234.5)
    ('2.35 ms', '1,234 ms')
    """
    return f"{milliseconds:,.{2 if milliseconds < 10 else 0}f} ms"
