"""The console script `fedkeys`: it runs a command, and turns what goes wrong into one line and an exit code."""

from __future__ import annotations

import os
import sys
import traceback

import click
from click.shell_completion import shell_complete

from edge.errors import EdgeError
from models.errors import ModelsError
from orchestrator.cli.commands import cli
from orchestrator.cli.output import printable
from orchestrator.errors import OrchestratorError
from tff_pipelines.errors import PipelineError

_COMPLETE_VARIABLE = "_FEDKEYS_COMPLETE"
_TRACEBACK_VARIABLE = "FEDKEYS_TRACEBACK"


def main() -> None:
    """Runs fedkeys. Exit codes: 0 ok, 1 bug, 2 bad input or settings, 3 stopped by a rule, 130 interrupted."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.exit(_exit_code())


def _exit_code() -> int:
    """Runs the command of sys.argv, says on standard error what went wrong, and returns the exit code."""
    try:
        if _COMPLETE_VARIABLE in os.environ:
            return shell_complete(cli, {}, "fedkeys", _COMPLETE_VARIABLE, os.environ[_COMPLETE_VARIABLE])
        # click's own main() would end with 1 when nobody reads on; this is the rest of it.
        with cli.make_context("fedkeys", sys.argv[1:]) as context:
            cli.invoke(context)
        sys.stdout.flush()
        return 0
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what Python still flushes at its end
        return 0
    except SystemExit as stop:
        if isinstance(stop.__context__, BrokenPipeError):  # rich ends so when nobody reads on
            return 0
        raise
    except click.ClickException as error:
        error.show()
        return 2
    except (click.Abort, KeyboardInterrupt):
        click.echo("stopped; a run goes on with --resume", err=True)
        return 130
    except Exception as error:
        if os.environ.get(_TRACEBACK_VARIABLE):
            traceback.print_exc()
        click.echo(f"fedkeys: {printable(_line(error))}", err=True)
        return _code(error)


def _code(error: Exception) -> int:
    if isinstance(error, (OrchestratorError, EdgeError)):
        return error.exit_code
    return 2 if isinstance(error, (ModelsError, PipelineError, OSError)) else 1


def _line(error: Exception) -> str:
    """Returns what an exception says, in one line. Whatever fedkeys does not raise itself is called a bug."""
    if isinstance(error, (OrchestratorError, ModelsError, PipelineError, EdgeError)):
        return str(error)
    if isinstance(error, OSError):
        return (error.strerror or str(error)) + (f" ({error.filename})" if error.filename else "")
    said = " ".join(f"{type(error).__name__}: {error}".split())
    return f"this is a bug: {said} (set {_TRACEBACK_VARIABLE}=1 to see where)"
