"""Result files as Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

from ivyport.bench.report import markdown_table

Values = dict[str, Any]


def page(values: Values) -> str:
    """A result file as a page: its table, and what it was measured on."""
    title, body = _BODIES[values["benchmark"]]
    return f"# {title}\n\n{body(values)}\n\n{environment(values['environment'])}\n"


def body(values: Values) -> str:
    """A result file's tables alone."""
    return _BODIES[values["benchmark"]][1](values)


def _port_time(values: Values) -> str:
    rows = [
        [
            row["what"],
            f"{row['median_s']:.1f}",
            f"{row['ratio']:.2f}" if row["ratio"] else "",
            f"{row['cpu_s']:.1f}",
            f"{row['cpu_ratio']:.2f}" if row["cpu_ratio"] else "",
            f"{row['peak_rss'] / 1e6:.0f}",
        ]
        for row in values["rows"]
    ]
    head = [
        "process",
        "s",
        "over its baseline",
        "CPU s",
        "over its baseline",
        "peak MB",
    ]
    return (
        f"{markdown_table(head, rows)}\n\n{values['rounds']} rounds, whole processes, in turns; "
        f"medians. The limit is {values['limit']:.1f} without verification."
    )


def _weights_memory(values: Values) -> str:
    rows = [
        [
            row["what"],
            f"{row['total'] / 1e6:.0f}",
            f"{row['largest'] / 1e6:.0f}",
            f"{row['over_imports'] / 1e6:.0f}",
            f"{row['limit'] / 1e6:.0f}",
            f"{row['seconds']:.1f}",
        ]
        for row in values["rows"]
    ]
    head = [
        "checkpoint",
        "total MB",
        "largest tensor MB",
        "peak over imports MB",
        "limit MB",
        "s",
    ]
    return markdown_table(head, rows)


def _perceiver(values: Values) -> str:
    times = values["times"]
    rows = [
        [
            mode,
            f"{statistics.median(times[f'port, {mode}']) * 1e3:.0f}",
            f"{statistics.median(times[f'transformers, {mode}']) * 1e3:.0f}",
            f"{middle:.3f} ({low:.2f}-{high:.2f})",
        ]
        for mode, (low, middle, high) in values["ratios"].items()
    ]
    rounds = len(next(iter(times.values())))
    return (
        f"{markdown_table(['mode', 'port, ms', 'transformers, ms', 'ratio'], rows)}\n\n"
        f"{rounds} rounds, {values['threads']} threads, one image, float32: medians, and the "
        "median of the ratios within a round with their quartiles. The port's outputs "
        f"differ from haiku's by {values['max_rel_diff']:.1e} of the largest. Tracing, "
        f"emitting and converting the weights took {values['port_s']:.1f} s."
    )


def environment(values: Values) -> str:
    """What a result was measured on, in a sentence."""
    versions = ", ".join(f"{k} {v}" for k, v in values["versions"].items())
    return (
        f"Measured {values['date']} on {values['processor']}, {values['cores']} cores, "
        f"{values['memory_gb']} GB; Python {values['python']}, {versions}. Load average "
        f"{values['load_before'][0]:.1f} before"
        + (f", {values['load_after'][0]:.1f} after." if "load_after" in values else ".")
    )


_BODIES: dict[str, tuple[str, Callable[[Values], str]]] = {
    "port_time": ("Time of a port", _port_time),
    "weights_memory": ("Memory of the weight conversion", _weights_memory),
    "perceiver": ("Perceiver in torch", _perceiver),
}
