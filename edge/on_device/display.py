"""A benchmark's figures for people: as lines, and as a picture."""

from __future__ import annotations

from pathlib import Path

from edge.on_device.estimates import estimate_lines
from edge.on_device.figures import Figures


def plot_figures(figures: Figures, path: Path) -> None:
    """Draws the train step by batch size, one line a runtime, with the arithmetic limit, as a picture file."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    lines: dict[tuple[str, int], list[tuple[int, float]]] = {}
    for row in figures.train_step_ms:
        lines.setdefault((row.runtime, row.threads), []).append((row.batch, row.p50))
    for (runtime, threads), points in lines.items():
        plural = "s" if threads > 1 else ""
        axes.plot(*zip(*sorted(points)), marker="o", markersize=3, label=f"{runtime}, {threads} thread{plural}")
    limit = [(int(batch), ms) for batch, ms in figures.arithmetic_limit_ms.items()]
    axes.plot(*zip(*sorted(limit)), "k:", label="arithmetic limit, 1 thread")
    estimates = figures.phone_estimates.train_step
    sizes = [row.batch for row in estimates]
    for name, colour in (("low", "tab:red"), ("mid", "tab:orange"), ("high", "tab:olive")):
        low, high = zip(*(row.tiers_ms[name] for row in estimates))
        axes.fill_between(sizes, low, high, color=colour, alpha=0.2, label=f"{name} phones, estimated")
    axes.set(xscale="log", yscale="log", xlabel="sentences a train step", ylabel="median milliseconds")
    axes.set_xticks([b for b, _ in sorted(limit)], [str(b) for b, _ in sorted(limit)])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    axes.set_title(f"A train step on {figures.machine.cpu}", fontsize=10)
    figure.savefig(path, dpi=130)
    pyplot.close(figure)


def table_lines(figures: Figures) -> list[str]:
    """Returns the figures as lines for people."""
    lines = [f"{'train step, ms':28} threads batch     p50     p90     p99  runs  of limit"]
    limits = figures.arithmetic_limit_ms
    for row in figures.train_step_ms:
        share = f"{limits[str(row.batch)] / row.p50:6.0%}" if row.threads == 1 else ""
        lines.append(
            f"{row.runtime:28} {row.threads:7} {row.batch:5} {row.p50:7.2f} {row.p90:7.2f} "
            f"{row.p99:7.2f} {row.runs:5} {share:>9}"
        )
    if figures.ratio_to_tensorflow:
        lines.append("LiteRT's median over TensorFlow's (plain; with the model's own gradient)")
    for ratio in figures.ratio_to_tensorflow:
        lines.append(f"  batch {ratio.batch:3}, {ratio.threads} threads: {ratio.plain:.2f}; {ratio.own_gradient:.2f}")
    for stroke in figures.key_stroke_ms:
        lines.append(
            f"key stroke, {stroke.runtime}, {stroke.model}, {stroke.threads} threads: {stroke.p50:.3f} ms, "
            f"p99 {stroke.p99:.3f} ms"
        )
    for file, ms in figures.load_ms_by_file.items():
        lines.append(f"load {file}: {ms:.1f} ms")
    for client, mib in figures.peak_rss_mib_by_client.items():
        lines.append(f"peak memory while training at batch {figures.memory_batch}, {client}: {mib:.1f} MiB")
    for name, count in figures.bytes.items():
        lines.append(f"{name}: {count:,} bytes")
    lines += estimate_lines(figures.phone_estimates.train_step)
    machine = figures.machine
    lines.append(
        f"{machine.cpu}, {machine.cores} cores, load {machine.load_average:.1f}, "
        f"{figures.gemm_gflops:.0f} GFLOP/s on one; medians of runs that take turns, on this machine, not on a phone"
    )
    return lines
