"""The report's section on differential privacy: how much the model can tell of one person, and at what price."""

from __future__ import annotations

from typing import Optional

from orchestrator.evaluation.privacy import RunPrivacy, run_privacy
from orchestrator.evaluation.privacy_results import measured_run
from orchestrator.report.parts import Figure, Section, Table
from orchestrator.report.plots import privacy as plots
from orchestrator.report.view import RunView
from orchestrator.run.spent import Guarantee
from orchestrator.units import count_text


def privacy(run: RunView) -> Optional[Section]:
    """Shows epsilon, what it rests on, and the noise; None for a run without differential privacy."""
    if not run.config.privacy.traits.adds_noise:
        return None
    result = run_privacy(run.run)
    figures = [
        Figure(
            plots.running_noise(result),
            f"Noise in the sum of all rounds so far, at epsilon {result.target:.3g}: what this run's mechanism adds "
            "(strong), and what the others would.",
        )
    ]
    points = [(epsilon, top1) for _, epsilon, top1 in measured_run(run.run).points if epsilon is not None]
    if len(points) > 1:
        figures.append(Figure(plots.recall_by_epsilon(points), "Top-1 recall of the dev people as epsilon is spent."))
    return Section(
        "What the model can tell of one person",
        (_in_short(result), *([_in_all(result.total)] if result.total is not None else [])),
        tuple(figures),
        (_epsilons(result), _mechanisms(result)),
        result.assumptions,
    )


def _in_short(result: RunPrivacy) -> str:
    epsilon = result.epsilon[result.delta]
    return (
        f"This run has user-level differential privacy by the mechanism `{result.mechanism}`: epsilon {epsilon:.3g} at "
        f"delta {result.delta:.2g}, zCDP {result.zcdp:.3g}. It bounds how much the model could differ had any one of "
        f"the {count_text(result.population, 'person')} typed nothing at all. Charged are "
        f"{count_text(result.rounds_charged, 'round')}; nobody was selected more than "
        f"{count_text(result.most_participations, 'time')}. `fedkeys privacy` prints it."
    )


def _in_all(total: Guarantee) -> str:
    together = "no epsilon" if total.epsilon is None else f"epsilon {total.epsilon:.3g} at delta {total.delta:.2g}"
    return (
        "The run also found its word list from the same people, released an n-gram of their text, or began with a "
        f"model that was trained on it: all of it together spends {together}."
    )


def _epsilons(result: RunPrivacy) -> Table:
    rows = tuple((f"{delta:.2g}", f"{epsilon:.3g}") for delta, epsilon in result.epsilon.items() if epsilon is not None)
    return Table(("delta", "epsilon"), rows, "Epsilon at other deltas", folded=True)


def _mechanisms(result: RunPrivacy) -> Table:
    rows = tuple((cost.name, f"{cost.noise_multiplier:.3g}", f"{cost.prefix_noise:.3g}") for cost in result.costs)
    return Table(
        ("mechanism", "noise multiplier", "noise of the running sum, clip norms a coordinate"),
        rows,
        f"What each mechanism would take for epsilon {result.target:.3g} in all rounds",
    )
