"""Plots of a benchmark: the speed-up of each model, and how latencies are distributed.

Drawn with matplotlib's Agg canvas, without its global state; PNG bytes are returned.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ivyport.bench.case import Row
from ivyport.bench.engines import BASELINES
from ivyport.bench.report import case_name, cases
from ivyport.bench.runner import Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette, which colour-blind readers can tell apart.
PORTS = {"jax": "#0072B2", "jax-scan": "#56B4E9", "torch": "#E69F00", "flax": "#009E73"}
TORCH = dict(zip(BASELINES, ("#555555", "#CC79A7", "#D55E00", "#8C6D31"), strict=True))
OTHER = "#999999"
INK, FAINT = "#222222", "#DDDDDD"


def speedup(results: Results) -> bytes | None:
    """Bars: each port's speed-up over the best torch mode, a group a case."""
    rows = [
        r
        for r in results.rows
        if r.speedup_vs_best_torch is not None and r.engine not in BASELINES
    ]
    if not rows:
        return None
    names = list(dict.fromkeys(case_name(row) for row in rows))
    engines = list(dict.fromkeys(row.engine for row in rows))
    figure = _figure(8.0, 1.3 + 0.24 * len(names) * len(engines) + 0.12 * len(names))
    axes = figure.add_subplot()
    height = 0.8 / len(engines)
    for index, engine in enumerate(engines):
        own = [row for row in rows if row.engine == engine]
        values = [row.speedup_vs_best_torch or 0.0 for row in own]
        places = [
            names.index(case_name(row)) + (index + 0.5) * height - 0.4 for row in own
        ]
        axes.barh(places, values, 0.88 * height, color=_color(engine), label=engine)
        for place, value in zip(places, values, strict=True):
            axes.text(value, place, f" {value:.2f}", va="center", fontsize=8, color=INK)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.axvline(1.0, color=INK, linewidth=0.9)
    longest = max(row.speedup_vs_best_torch or 0.0 for row in rows)
    axes.set_xlim(0, 1.12 * max(1.0, longest))
    axes.set_xlabel("times as fast as torch's best mode")
    _tidy(axes, f"Ports against torch ({_device(results)})", grid="x")
    if len(engines) > 1:
        axes.legend(
            frameon=False,
            fontsize=8,
            loc="lower right",
            bbox_to_anchor=(1.0, 1.0),
            ncols=len(engines),
            borderaxespad=0.2,
        )
    return _png(figure)


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
    figure = _figure(5.2 * columns, lines * (0.9 + 0.32 * most) + 0.5)
    figure.suptitle(f"Latency ({_device(results)})", fontsize=11, color=INK)
    for index, group in enumerate(groups):
        axes = figure.add_subplot(lines, columns, index + 1)
        _boxes(axes, group, results)
        if index // columns == lines - 1:
            axes.set_xlabel("ms a call")
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
        medianprops={"color": "white", "linewidth": 1.4},
        whiskerprops={"color": INK, "linewidth": 0.8},
        capprops={"color": INK, "linewidth": 0.8},
    )
    for box, row in zip(found["boxes"], group, strict=True):
        box.set(facecolor=_color(row.engine), edgecolor="none")
    axes.set_yticks(range(1, len(group) + 1), [row.engine for row in group])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.1 * max(float(np.percentile(s, 90)) for s in samples))
    _tidy(axes, case_name(group[0]), grid="x")


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _tidy(axes: Axes, title: str, *, grid: Any) -> None:
    axes.set_title(title, fontsize=10, loc="left", color=INK)
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
