"""Plots of a benchmark: the speed-up of each model, and how latencies are distributed.

Drawn with matplotlib's Agg canvas, without its global state; PNG bytes are returned, at least
`PIXELS` wide.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ivyport.bench.case import Row
from ivyport.bench.doubts import MARK, doubts, is_disturbed
from ivyport.bench.engines import BASELINES
from ivyport.bench.report import case_name, cases
from ivyport.bench.runner import Results
from ivyport.bench.timer import bootstrap_ratio

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette, which colour-blind readers can tell apart.
PORTS = {
    "jax": "#0072B2",
    "jax-scan": "#56B4E9",
    "linen": "#F0E442",
    "haiku": "#999933",
    "torch": "#E69F00",
    "numpy": "#882255",
    "flax": "#009E73",
}
TORCH = dict(zip(BASELINES, ("#555555", "#CC79A7", "#D55E00", "#8C6D31"), strict=True))
OTHER = "#999999"
INK, FAINT, WARNING = "#222222", "#DDDDDD", "#B00020"
PIXELS, DPI = 1280, 160
WIDTH = PIXELS / DPI  # inches
LINE = 0.17  # of text, in inches


def speedup(results: Results) -> bytes | None:
    """Bars: each port's speed-up over the best torch mode, a group a case.

    The lines at their ends are 95 % intervals, from drawing rounds anew.
    """
    rows = [
        r
        for r in results.rows
        if r.speedup_vs_best_torch is not None and r.engine not in BASELINES
    ]
    if not rows:
        return None
    names = list(dict.fromkeys(_name(row, results) for row in rows))
    engines = list(dict.fromkeys(row.engine for row in rows))
    height = 0.55 + 0.26 * len(names) * len(engines) + 0.14 * len(names)
    figure = _figure(results, f"Port to {', '.join(engines)} over torch", height)
    axes = figure.add_subplot()
    thick = 0.8 / len(engines)
    ends = [1.0]
    for index, engine in enumerate(engines):
        for row in (row for row in rows if row.engine == engine):
            place = names.index(_name(row, results)) + (index + 0.5) * thick - 0.4
            ends.append(_bar(axes, results, row, place, 0.88 * thick))
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.axvline(1.0, color=INK, linewidth=0.9)
    axes.set_xlim(0, 1.25 * max(ends))
    axes.set_xlabel("times as fast as torch's best mode (95 % interval)")
    _tidy(axes, "", grid="x")
    if len(engines) > 1:
        axes.legend(
            handles=[_patch(engine) for engine in engines],
            frameon=False,
            fontsize=8,
            loc="lower right",
            bbox_to_anchor=(1.0, 1.0),
            ncols=len(engines),
            borderaxespad=0.2,
        )
    return _png(figure)


def _bar(axes: Axes, results: Results, row: Row, place: float, thick: float) -> float:
    """One bar with its interval and its value; where it ends."""
    value = row.speedup_vs_best_torch or 0.0
    axes.barh(place, value, thick, color=_color(row.engine))
    low, high = _interval(results, row) or (value, value)
    # A median of rounds may lie outside of what drawing them anew gives.
    low, high = min(low, value), max(high, value)
    axes.errorbar(
        value,
        place,
        xerr=[[value - low], [high - value]],
        color=INK,
        linewidth=1.0,
        capsize=2.5,
    )
    mark = f" {MARK}" if is_disturbed(row) else ""
    axes.text(high, place, f"  {value:.2f}{mark}", va="center", fontsize=8, color=INK)
    return high


def _interval(results: Results, row: Row) -> tuple[float, float] | None:
    """The 95 % interval of a row's speed-up; None without the calls of both sides."""
    best = min(
        (r for r in _of_case(results, row) if r.engine in BASELINES and r.median_ms),
        key=lambda r: r.median_ms or 0.0,
        default=None,
    )
    if best is None or not {best.key, row.key} <= results.samples.keys():
        return None
    return bootstrap_ratio(results.samples[best.key], results.samples[row.key])


def _of_case(results: Results, row: Row) -> list[Row]:
    return next(group for group in cases(results.rows) if row in group)


def latency(results: Results) -> bytes | None:
    """Boxes: the calls of every engine, a panel a case; whiskers from p10 to p90."""
    groups = [
        timed
        for group in cases(results.rows)
        if (timed := [row for row in group if row.key in results.samples])
    ]
    if not groups:
        return None
    columns = min(2, len(groups))
    lines = -(-len(groups) // columns)
    most = max(len(group) for group in groups)
    figure = _figure(results, "Latency", lines * (0.75 + 0.32 * most))
    for index, group in enumerate(groups):
        axes = figure.add_subplot(lines, columns, index + 1)
        _boxes(axes, group, results)
        if index // columns == lines - 1:
            axes.set_xlabel("ms a call: median, quartiles, p10 to p90")
    return _png(figure)


def _boxes(axes: Axes, group: Sequence[Row], results: Results) -> None:
    samples = [
        [1000 * seconds for times in results.samples[row.key] for seconds in times]
        for row in group
    ]
    found = axes.boxplot(
        samples,
        orientation="horizontal",
        whis=(10, 90),
        widths=0.6,
        showfliers=False,
        patch_artist=True,
        medianprops={"color": INK, "linewidth": 1.8},
        whiskerprops={"color": INK, "linewidth": 0.8},
        capprops={"color": INK, "linewidth": 0.8},
    )
    for box, row in zip(found["boxes"], group, strict=True):
        box.set(facecolor=_color(row.engine), edgecolor="none", alpha=0.75)
    for place, times in enumerate(samples, 1):
        end, median = float(np.percentile(times, 90)), float(np.median(times))
        text = f"  {median:#.3g} ms" if median < 1000 else f"  {median:.0f} ms"
        axes.text(end, place, text, va="center", fontsize=8, color=INK)
    names = [
        f"{row.engine} {MARK}" if is_disturbed(row) else row.engine for row in group
    ]
    axes.set_yticks(range(1, len(group) + 1), names)
    axes.invert_yaxis()
    # Room for the medians behind the whiskers.
    axes.set_xlim(0, 1.35 * max(float(np.percentile(s, 90)) for s in samples))
    _tidy(axes, _name(group[0], results), grid="x")


# ---- titles


def _heading(results: Results) -> str:
    """Device, and what all cases have in common of mode, dtype, batch and length."""
    rows = results.rows
    found = [_device(results)]
    for words in (
        [row.mode for row in rows],
        [row.dtype for row in rows],
        [f"batch {row.batch}" for row in rows],
        [f"length {row.seq_len}" for row in rows if row.seq_len is not None],
    ):
        found.append(", ".join(dict.fromkeys(words)))
    threads = results.environment.get("threads")
    if threads and any(row.device == "cpu" for row in rows):
        found.append(f"{threads} thread{'s' * (threads > 1)}")
    return ", ".join(part for part in found if part)


def _name(row: Row, results: Results) -> str:
    """A case by what tells it from the others; the heading has what all have in common."""
    rows = results.rows
    settings = {(r.mode, r.batch, r.seq_len, r.dtype) for r in rows}
    lengths = {r.seq_len for r in rows if r.seq_len is not None}
    common = {(r.mode, r.batch, r.dtype) for r in rows}
    if len(settings) == 1 or (len(common) == 1 and len(lengths) == 1):
        return row.model
    return case_name(row)


def _figure(results: Results, title: str, height: float) -> Figure:
    """A figure with its heading, and below it in red what makes it doubtful."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    heading = textwrap.wrap(f"{title}: {_heading(results)}", 100)
    warned = [
        line
        for text in doubts(results.environment, results.rows)
        for line in textwrap.wrap(f"Warning: {text}", 118)
    ]
    above = LINE * (1.35 * len(heading) + len(warned)) + 0.1
    layout = ConstrainedLayoutEngine(rect=(0, 0, 1, 1 - above / (height + above)))
    figure = Figure(figsize=(WIDTH, height + above), layout=layout, dpi=DPI)
    place = 1 - 0.06 / (height + above)
    for lines, size, color in ((heading, 10, INK), (warned, 8, WARNING)):
        for line in lines:
            figure.text(0.01, place, line, fontsize=size, color=color, va="top")
            place -= LINE * (size / 8) / (height + above)
    return figure


def _patch(engine: str) -> Any:
    from matplotlib.patches import Patch

    return Patch(color=_color(engine), label=engine)


def _tidy(axes: Axes, title: str, *, grid: Any) -> None:
    axes.set_title(title, fontsize=9, loc="left", color=INK)
    axes.grid(axis=grid, color=FAINT, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8, length=0, colors=INK)
    axes.xaxis.label.set(size=8, color=INK)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(FAINT)


def _color(engine: str) -> str:
    return PORTS.get(engine) or TORCH.get(engine) or OTHER


def _device(results: Results) -> str:
    gpus = results.environment.get("gpus")
    return str(gpus[0]["name"] if gpus else results.environment["processor"])


def _png(figure: Figure) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    out = io.BytesIO()
    canvas = FigureCanvasAgg(figure)
    # matplotlib has no types for it.
    canvas.print_png(out, metadata={"Software": None})  # type: ignore[no-untyped-call]
    return out.getvalue()
