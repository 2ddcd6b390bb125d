"""What the command line shows: stages and errors on stderr, results on stdout."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

import typer
from rich import box
from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape
from rich.panel import Panel
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
from rich.progress import TimeElapsedColumn as Elapsed
from rich.table import Table

from ivyport.core.errors import DefectError, FactoryError, GraphError, IvyportError
from ivyport.core.shown import printable

if TYPE_CHECKING:
    from ivyport.core.report import Report, ReportRow

#: Exit codes: the port agrees; it does not; the request or the source is at fault; ivyport or
#: the user's factory is; Ctrl-C.
OK, DRIFT, FAULT, DEFECT, INTERRUPTED = 0, 1, 2, 70, 130
#: Stages whose progress counts bytes; every other one counts items.
BYTE_STAGES = frozenset({"download", "weights", "save", "memory"})
#: Lines of a message that are shown.
SCREEN = 60
#: Rows of one kind that a table shows; the worst come first.
SHOWN_ROWS = 5


class Stages:
    """Progress by stage: live bars on a terminal, one line a finished stage elsewhere.

    It is the `progress` callback of the library: called with a stage's name and, where
    they are known, how much of it is done; a new name finishes the stage before.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._stage: str | None = None
        self._begun = 0.0
        self._task: Any = None
        self._live = Progress(
            SpinnerColumn(finished_text="[green]✓[/]"),
            TextColumn("{task.description:<10}"),
            BarColumn(bar_width=24),
            Elapsed(),
            TextColumn("{task.fields[amount]}"),
            console=console,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> Stages:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self._finish()
        self._live.stop()

    def __call__(
        self, stage: str, done: int | None = None, total: int | None = None
    ) -> None:
        if stage != self._stage:
            self._finish()
            self._stage, self._begun = stage, time.monotonic()
            self._task = self._live.add_task(escape(stage), total=None, amount="")
        if done is not None:
            amount = _amount(stage, done, total)
            self._live.update(self._task, completed=done, total=total, amount=amount)
            if stage == "memory" and done > (total or done):
                self._console.print(
                    f"warning: verifying needs about {decimal(done)} of memory, and "
                    f"{decimal(total or 0)} are free: --no-verify ports without it",
                    highlight=False,
                )

    def counter(self, stage: str, begin: bool = True) -> Callable[[int], None]:
        """A callback that gets increments (bytes, say) and shows their sum so far.

        The stage begins at once, or with the first increment.
        """
        done = 0
        if begin:
            self(stage)

        def add(amount: int) -> None:
            nonlocal done
            done += amount
            self(stage, done)

        return add

    def _finish(self) -> None:
        if self._stage is None:
            return
        self._live.update(self._task, completed=1, total=1)
        if not self._console.is_terminal:
            seconds = time.monotonic() - self._begun
            amount = self._live.tasks[-1].fields["amount"]
            line = f"{self._stage:<10} {seconds:6.1f} s  {amount}".rstrip()
            self._console.print(line, highlight=False, markup=False)
        self._stage = None


def _amount(stage: str, done: int, total: int | None) -> str:
    show = decimal if stage in BYTE_STAGES else str
    return show(done) if total is None else f"{show(done)} of {show(total)}"


class Screen:
    """One command's output: the result on stdout, everything else on stderr."""

    def __init__(self, *, as_json: bool = False, verbose: bool = False) -> None:
        self.as_json, self.verbose = as_json, verbose
        # Names are shown as they are: `:x:` in one is no emoji.
        self.out = Console(soft_wrap=True, emoji=False)
        self.err = Console(stderr=True, emoji=False)

    @contextlib.contextmanager
    def work(self, kept: str = "nothing was written") -> Iterator[Stages]:
        """Run a command's work: yields the progress callback, ends in an exit code.

        What libraries print meanwhile goes to stderr, so that stdout holds the result
        alone. An `IvyportError` becomes a panel and exit code 2, and is left to
        propagate where IVYPORT_DEBUG=1 asks for its traceback. Ctrl-C says what is `kept`.
        """
        try:
            with contextlib.redirect_stdout(sys.stderr), Stages(self.err) as stages:
                yield stages
        except IvyportError as error:
            self._error(error)
            if os.environ.get("IVYPORT_DEBUG") == "1":
                raise
            raise typer.Exit(code_of(error)) from None
        except KeyboardInterrupt:
            if self.as_json:
                self.json({"error": {"kind": "Interrupted", "message": kept}})
            print(f"interrupted: {kept}", file=self.err.file)
            raise typer.Exit(INTERRUPTED) from None

    def _error(self, error: IvyportError) -> None:
        kind = type(error).__name__
        if self.as_json:
            self.json({"error": {"kind": kind, "message": str(error)}})
        message = cut(printable(str(error)))
        if not self.err.is_terminal:
            # A pipe has no width: names and paths stay whole.
            print(f"{kind}: {message}", file=self.err.file)
            return
        body = escape(message)
        self.err.print(Panel(body, title=kind, title_align="left", border_style="red"))

    def json(self, value: Mapping[str, Any]) -> None:
        """Print one JSON object on stdout."""
        print(json.dumps(value, indent=2))

    def line(self, text: str) -> None:
        """Print a line of the result, uncoloured; a terminal wraps it between words."""
        text = printable(text)
        for line in text.split("\n") if self.out.is_terminal else []:
            print(_wrapped(line, self.out.width), file=self.out.file)
        if not self.out.is_terminal:
            self.out.print(text, highlight=False, markup=False)

    def parity(self, report: Report) -> None:
        """Print the parity table and the verdict."""
        narrow = self.out.is_terminal and not self.verbose
        width = self.out.width if narrow else None
        table = parity_table(report.rows, width)
        if width is None:
            lines = [line for row in report.rows for line in _lines(row, None)]
            longest = max(map(len, lines), default=0) + NUMBERS
            # A console of that width, and no narrower than the 80 columns that rich takes for a
            # pipe: the heads and short names need some as well.
            width = max(longest, 80)
            Console(file=self.out.file, width=width, emoji=False).print(table)
        else:
            self.out.print(table)
        for text in report.not_checked:
            self.line(f"not checked: {text}")
        if report.passed:
            self.line("parity holds")
        else:
            drift = report.first_drift or "not localised"
            self.line(f"parity does not hold; the first module that drifts: {drift}")


def cut(text: str) -> str:
    """A message of at most a screen; the middle of a longer one is left out."""
    lines = [
        line if len(line) <= 2000 else f"{line[:2000]}..." for line in text.split("\n")
    ]
    if len(lines) <= SCREEN:
        return "\n".join(lines)
    kept = SCREEN // 2
    left = len(lines) - 2 * kept
    return "\n".join([*lines[:kept], f"... {left} lines ...", *lines[-kept:]])


def _wrapped(line: str, width: int) -> str:
    """A line broken between words, further lines indented; names and paths stay whole."""
    return textwrap.fill(
        line,
        width,
        subsequent_indent="  ",
        break_long_words=False,
        break_on_hyphens=False,
        replace_whitespace=False,
        drop_whitespace=True,
    )


def code_of(error: IvyportError) -> int:
    """The exit code of an error: who is at fault."""
    own = isinstance(error, DefectError | GraphError | FactoryError)
    return DEFECT if own else FAULT


#: Columns of numbers and the marks, with the space between them.
NUMBERS = 38


def parity_table(rows: Sequence[ReportRow], width: int | None = None) -> Table:
    """The report as a table: per kind the worst rows first, and every failing one.

    A row is two lines: its name and numbers, then its shape and note. In a terminal of `width`
    columns a long name loses its middle and a note is wrapped between words; without a width, in
    a pipe, both are whole and on one line.
    """
    room = None if width is None else max(width - NUMBERS, 24)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    table.add_column("", no_wrap=True)
    table.add_column("parity with the source", no_wrap=True, overflow="ignore")
    for column in ("max abs", "max rel", "tolerance"):
        table.add_column(column, justify="right", no_wrap=True)
    for kind in dict.fromkeys(row.kind for row in rows):
        of_kind = [row for row in rows if row.kind == kind]
        worst_first = sorted(of_kind, key=lambda row: row.severity, reverse=True)
        failing = sum(not row.passed for row in of_kind)
        shown = worst_first[: max(failing, SHOWN_ROWS)]
        for row in shown:
            table.add_row(
                "[green]✓[/]" if row.passed else "[red]✗[/]",
                escape("\n".join(_lines(row, room))),
                f"{row.max_abs:.1e}",
                f"{row.max_rel:.1e}",
                f"{row.tolerance:.0e}",
            )
        if len(shown) < len(of_kind):
            rest = f"{kind}: {len(of_kind) - len(shown)} more, all smaller"
            table.add_row("[green]✓[/]", rest, *[""] * 3)
        table.add_section()
    return table


def _lines(row: ReportRow, room: int | None) -> list[str]:
    """The name of a row, and below it what else there is to say."""
    name = printable(f"{row.kind} {row.name}")
    more = printable(f"{row.shapes}  {row.note}".strip())
    if room is None:
        return [name, f"  {more}"] if more else [name]
    kept = [middle(f"{row.kind} ", printable(row.name), room)]
    return kept + textwrap.wrap(
        more, room, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False
    )


def middle(start: str, name: str, room: int) -> str:
    """``start + name`` in at most `room` characters: a long name loses its middle.

    >>> middle("gradient ", "encoder.layer.11.attention.self.query.kernel", 34)
    'gradient encoder.laye….query.kernel'
    """
    if len(start) + len(name) <= room:
        return start + name
    left = max(room - len(start) - 1, 8)
    head = left // 2
    return f"{start}{name[:head]}…{name[head - left :]}"
