"""What goes wrong in tff_pipelines.

PipelineError
└── WorkerError         a worker can't be started, reached or used
    └── WorkerDied      a worker went away while it had work
"""

from __future__ import annotations


class PipelineError(Exception):
    """Root of the errors that tff_pipelines raises."""


class WorkerError(PipelineError):
    """A TFF worker can't be started, reached or used."""


class WorkerDied(WorkerError):
    """A TFF worker went away while it had work."""
