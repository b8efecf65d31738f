"""Sets how the report's figures look: SVG with the colours and fonts of the page around it, and no link to anywhere.

Colours are CSS variables, so that a figure follows the page from light to dark. Matplotlib wants real colours: each
variable has a stand-in, which is replaced in the finished SVG.
"""

from __future__ import annotations

import io
import re
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from orchestrator.report.palette import PALETTE

INK, MUTED, GRID, CARD = "#0a0001", "#0a0002", "#0a0003", "#0a0004"
_STAND_INS = {name: f"#0a01{i:02x}" for i, name in enumerate(PALETTE)}
MODEL, MODEL_SOFT = _STAND_INS["model"], _STAND_INS["model-soft"]
BASELINE, BASELINE_SOFT = _STAND_INS["baseline"], _STAND_INS["baseline-soft"]
MIXTURE = _STAND_INS["mixture"]
GROUPS, GROUPS_SOFT = _STAND_INS["groups"], _STAND_INS["groups-soft"]
SERVER, SERVER_SOFT = _STAND_INS["server"], _STAND_INS["server-soft"]
PARTS = tuple(colour for name, colour in _STAND_INS.items() if name.startswith("part"))
_VARIABLES = {
    INK: "currentColor",
    MUTED: "var(--muted)",
    GRID: "var(--line)",
    CARD: "var(--card)",
    **{colour: f"var(--{name})" for name, colour in _STAND_INS.items()},
}
STYLE: Any = {  # Any: matplotlib's type of it is a list of all its settings
    "svg.fonttype": "none",  # text stays text: small, sharp, can be searched
    "svg.hashsalt": "fedkeys",  # the same run gives the same file
    "font.size": 10.5,
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "lines.linewidth": 2.0,
    "lines.markersize": 4.5,
    "patch.linewidth": 0.0,
}
SMALL = (4.9, 3.1)
PERCENT = FuncFormatter(lambda value, _: f"{100 * value:.0f}%")


def new_axes(inches: tuple[float, float]) -> tuple[Figure, Axes]:
    """Returns a figure of that size with one pair of axes."""
    figure = Figure(figsize=inches, layout="constrained")
    figure.patch.set_alpha(0)
    return figure, figure.add_subplot()


def legend_above(axes: Axes) -> None:
    """Puts the legend above the axes."""
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, columnspacing=1.2, handlelength=1.4, borderpad=0.2)


def to_svg(figure: Figure, name: str, description: str) -> Markup:
    """Returns the figure as an <svg> element. `name` keeps its ids apart from those of the page's other figures."""
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": f"fedkeys {name}"}):
        figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]  # without XML prolog and DOCTYPE
    view_box = re.search(r'viewBox="[^"]*"', svg)
    assert view_box is not None
    # In HTML, <svg> and xlink:href are known without naming their namespaces.
    svg = f'<svg {view_box[0]} role="img" aria-label="{Markup.escape(description)}">' + svg[svg.index(">") + 1 :]
    prefix = re.sub(r"\W+", "-", name)
    svg = re.sub(r'(\bid="|url\(#|xlink:href="#)', rf"\g<1>{prefix}-", svg)
    svg = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", svg, flags=re.DOTALL)  # it would style the page, too
    svg = re.sub(r"'DejaVu Sans'[^;\"]*", "system-ui, sans-serif", svg)
    for stand_in, variable in _VARIABLES.items():
        svg = svg.replace(stand_in, variable)
    return Markup(svg)
