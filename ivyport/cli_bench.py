"""`ivyport bench`: measure ports against torch, and compare two measurements."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ivyport.cli_render import INTERRUPTED, OK, Screen, middle
from ivyport.core.errors import InputError
from ivyport.targets import require

if TYPE_CHECKING:
    from ivyport.bench.case import Case
    from ivyport.bench.engines import Engine
    from ivyport.bench.runner import Options, Results
    from ivyport.bench.suite import Entry

# A call takes a hundred times as long on a CPU, and the default suite has 16 models.
RUNS = {"cpu": 30, "gpu": 100}
# Three or four models on two cores, with all of torch's modes.
BUDGET = 600.0
COMPARE = "compare"
# Columns that a narrow terminal does without, in this order.
SPARE = ("mean", "peak MB", "max rel diff", "compile s", "p90", "p10")
ALL_BASELINES = "eager,compile,compile:reduce-overhead,compile:max-autotune"


Models = Annotated[
    list[str] | None,
    typer.Argument(help="Models; none for a suite suited to the machine."),
]
To = Annotated[
    list[str] | None, typer.Option("--to", help="Targets of ports. Repeatable.")
]
Baseline = Annotated[str, typer.Option(help="Torch modes to compare with.")]
Batch = Annotated[str, typer.Option(help="Batch sizes.")]
SeqLen = Annotated[str, typer.Option(help="Tokens, or frames of audio.")]
Dtype = Annotated[str, typer.Option(help="float32,bfloat16")]
Mode = Annotated[str, typer.Option(help="forward,train")]
Device = Annotated[
    str | None, typer.Option(help="cpu or gpu. Default: gpu where there is one.")
]
Runs = Annotated[
    int | None, typer.Option(min=1, help="Timed calls. Default: 100, on a CPU 30.")
]
Rounds = Annotated[int, typer.Option(min=1, help="Turns the calls are spread over.")]
Threads = Annotated[
    int | None, typer.Option(min=1, help="CPU threads. Default: all cores.")
]
Tf32 = Annotated[bool, typer.Option(help="Allow TensorFloat-32, on both sides.")]
Flax = Annotated[
    Path | None,
    typer.Option(help="Folder with transformers 4.55: also run its Flax classes."),
]
Scan = Annotated[bool, typer.Option(help="Also run JAX ports with scanned layers.")]
Patience = Annotated[
    float, typer.Option(min=0, help="Seconds to wait for a quiet CPU.")
]
Timeout = Annotated[
    float, typer.Option(min=1, help="Seconds for an engine to load and compile.")
]
Budget = Annotated[
    float,
    typer.Option(
        min=0,
        help="Seconds for the whole run: what is begun is cut short, "
        "what is left is not begun. 0 is no limit.",
    ),
]
Out = Annotated[Path, typer.Option("-o", "--out", help="Folder of the result files.")]
Name = Annotated[
    str, typer.Option(help="A word in the names of the result files.", metavar="WORD")
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]


def bench(
    models: Models = None,
    to: To = None,
    baseline: Baseline = ALL_BASELINES,
    batch: Batch = "1",
    seq_len: SeqLen = "128",
    dtype: Dtype = "float32",
    mode: Mode = "forward",
    device: Device = None,
    runs: Runs = None,
    rounds: Rounds = 10,
    threads: Threads = None,
    tf32: Tf32 = False,
    flax: Flax = None,
    scan_layers: Scan = False,
    patience: Patience = 2.0,
    timeout: Timeout = 1800.0,
    budget: Budget = BUDGET,
    out: Out = Path("results"),
    name: Name = "",
    as_json: Json = False,
) -> None:
    """Measure how fast ports are against torch and torch.compile.

    `ivyport bench compare A.json B.json` shows what changed between two results, and
    whether by more than the noise.
    """
    screen = Screen(as_json=as_json)
    if models and models[0] == COMPARE:
        _compare(models[1:], screen)
    with screen.work() as progress:
        progress("plan")
        require("torch", "hf")
        from ivyport.bench import environment as machine
        from ivyport.bench.runner import cases_of

        device = machine.default_device() if device is None else device
        threads = machine.cores() if threads is None else threads
        engines = _engines(baseline, to, flax, scan_layers=scan_layers)
        entries, left_out = _entries(models, device, threads, len(engines))
        cases = cases_of(
            entries,
            modes=_names(mode),
            dtypes=_names(dtype),
            batches=_numbers("--batch", batch),
            seq_lens=_numbers("--seq-len", seq_len),
            device=device,
        )
        if not cases:
            raise InputError("--mode and --dtype must each name at least one.")
        seen = machine.check_gpu(device == "gpu")
        runs = RUNS[device] if runs is None else runs
        options = _options(runs, rounds, threads, tf32, patience, timeout, budget)
        _foretell(entries, cases, engines, options)
        results = _results(device, options, engines, left_out)
        stem = out / _stem(device, name)
        progress("measure")
        ended = _measure((entries, engines, cases), options, results, stem, seen)
    _show(results, stem, screen)
    raise typer.Exit(ended)


def _stem(device: str, name: str) -> str:
    """``bench_cpu_suite_2026-01-31_120000``."""
    if name and not (name.isascii() and name.replace("-", "").isalnum()):
        raise InputError(f"--name {name!r}: use letters, digits and dashes.")
    stamp = datetime.datetime.now().strftime("%Y-%m-%d_%H%M%S")
    return "_".join(part for part in ("bench", device, name, stamp) if part)


def _foretell(
    entries: list[Entry], cases: list[Case], engines: list[Engine], options: Options
) -> None:
    """Say about how long it will take, and what that means for a budget."""
    from ivyport.bench.budget import estimate, in_words
    from ivyport.bench.doubts import of_variables
    from ivyport.bench.environment import variables

    seconds = estimate(entries, cases, engines, options.runs, options.rounds)
    models = len({case.model for case in cases})
    text = (
        f"about {in_words(seconds)} for {models} model{'s' * (models > 1)} and "
        f"{len(engines)} engines"
    )
    if options.budget and seconds > options.budget:
        text += (
            f"; the budget is {in_words(options.budget)}, so that rounds are cut short and "
            f"models at the end are left out (--budget {seconds:.0f}, or 0 for all)"
        )
    print(text, file=sys.stderr)
    for warning in of_variables(variables()):
        print(f"warning: {warning}", file=sys.stderr)


def _options(
    runs: int,
    rounds: int,
    threads: int,
    tf32: bool,
    patience: float,
    timeout: float,
    budget: float,
) -> Options:
    from ivyport.bench.processes import Quiet
    from ivyport.bench.runner import Options

    return Options(
        runs=runs,
        rounds=rounds,
        threads=threads,
        tf32=tf32,
        quiet=Quiet(patience=patience),
        timeout=timeout,
        budget=budget,
    )


def _results(
    device: str, options: Options, engines: Sequence[Engine], left_out: list[str]
) -> Results:
    """Empty results that say what they will have been measured on."""
    from ivyport.bench import environment as machine
    from ivyport.bench.runner import Results

    found = machine.describe(device=device, threads=options.threads, tf32=options.tf32)
    absent = sorted({p for engine in engines for p in engine.missing})
    return Results(found | {"left_out": left_out, "not_installed": absent})


def _engines(
    baseline: str, to: Sequence[str] | None, flax: Path | None, *, scan_layers: bool
) -> list[Engine]:
    from ivyport.bench.engines import baselines, hand_written, ports

    targets = [name for given in to or ["jax"] for name in _names(given)]
    found = [*baselines(_names(baseline)), *ports(targets, scan_layers=scan_layers)]
    if flax is not None:
        found.append(hand_written(flax))
    for engine in found:
        if engine.missing:
            names = ", ".join(engine.missing)
            print(f"{engine.name} is left out: {names} not installed", file=sys.stderr)
    return found


def _entries(
    models: Sequence[str] | None, device: str, threads: int, copies: int
) -> tuple[list[Entry], list[str]]:
    """The models asked for, or the default suite and what it leaves out."""
    from ivyport.bench import environment as machine
    from ivyport.bench import suite
    from ivyport.bench.case import DEVICES

    if device not in DEVICES:
        raise InputError(f"--device {device!r} is none of: {', '.join(DEVICES)}.")
    if models:
        return suite.resolve(models), []
    gpu = machine.gpu_memory() if device == "gpu" else None
    memory = machine.free_memory() if gpu is None else gpu
    entries, left_out = suite.default_suite(
        device=device, cores=threads, memory=int(0.8 * memory), copies=copies
    )
    for text in left_out:
        print(f"not in this machine's default suite: {text}", file=sys.stderr)
    return entries, left_out


def _names(text: str) -> list[str]:
    return list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def _numbers(option: str, text: str) -> list[int]:
    try:
        found = [int(part) for part in _names(text)]
    except ValueError:
        found = []
    if not found or min(found) < 1:
        raise InputError(
            f"{option} {text!r}: give positive whole numbers, such as 1,8."
        )
    return found


def _measure(
    plan: tuple[Any, Any, Any],
    options: Options,
    results: Results,
    stem: Path,
    seen: set[str],
) -> int:
    """Run it, and write the files after every row; 130 if it was interrupted."""
    from ivyport.bench import report
    from ivyport.bench.runner import Runner

    def keep(results: Results) -> None:
        report.write(results, stem)

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    entries, engines, cases = plan
    runner = Runner(entries, engines, options, results, keep=keep, say=say, seen=seen)
    ended = OK
    try:
        runner.run(cases)
    except KeyboardInterrupt:
        say(f"interrupted: the rows that are done are kept ({len(results.rows)})")
        ended = INTERRUPTED
    report.write(results, stem)
    if results.rows and not report.write_plots(results, stem):
        say("no plots: matplotlib is not installed (pip install 'ivyport[bench]')")
    return ended


def _show(results: Results, stem: Path, screen: Screen) -> None:
    from ivyport.bench import report
    from ivyport.bench.doubts import doubts

    if screen.as_json:
        screen.json(report.to_json(results))
        return
    warnings = doubts(results.environment, results.rows)
    baselines = report.shown_baselines(results.rows)
    columns = report.header(baselines)
    left_out: list[str] = []
    table = _results_table(results, baselines, columns)
    for name in SPARE:
        if not _overhang(table, screen):
            break
        columns = [column for column in columns if column != name]
        left_out.append(name)
        table = _results_table(results, baselines, columns)
    for text in warnings:
        screen.line(f"warning: {text}")
    _print(table, screen)
    if left_out:
        screen.line(f"{', '.join(left_out)}: in {stem}.md, or in a wider terminal")
    for row in results.rows:
        if row.key in results.details:
            name = f"{report.case_name(row)}, {row.engine}"
            screen.line(f"{name}: {row.status}: {results.details[row.key]}")
    for line in report.overall(results.rows):
        screen.line(line)
    screen.line(f"results: {stem}.json")


def _results_table(
    results: Results, baselines: Sequence[str], columns: Sequence[str]
) -> Table:
    """The rows case by case, with those columns; the case is a line of its own."""
    from ivyport.bench import report

    names = report.header(baselines)
    kept = [index for index, name in enumerate(names) if name in columns[1:]]
    table = _table([names[index] for index in kept], left=1)
    for group in report.cases(results.rows):
        table.add_row(f"[bold]{escape(report.case_name(group[0]))}[/]")
        for row in group:
            cells = report.cells(row, group, baselines)
            table.add_row(*(escape(cells[index]) for index in kept))
        table.add_section()
    return table


def _table(columns: Sequence[str], *, left: int) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    for index, name in enumerate(columns):
        justify: Any = "left" if index < left else "right"
        # "over compile:max-autotune" has a line of its own for its second word.
        table.add_column(name.replace(" ", "\n", 1), justify=justify, no_wrap=True)
    return table


def _overhang(table: Table, screen: Screen) -> int:
    """By how many columns a table is wider than the terminal; a pipe takes any width."""
    if not screen.out.is_terminal or screen.verbose:
        return 0
    return max(_width(table, screen) - screen.out.width, 0)


def _width(table: Table, screen: Screen) -> int:
    return Console(file=screen.out.file, width=500).measure(table).maximum


def _compared(
    columns: Sequence[str], rows: Sequence[list[str]], screen: Screen
) -> Table:
    """The table of changes; where it is wider than the terminal, cases lose their middle."""
    longest = max((len(row[0]) for row in rows), default=0)

    def table(room: int) -> Table:
        made = _table(columns, left=2)
        for case, *cells in rows:
            made.add_row(*map(escape, (middle("", case, room), *cells)))
        return made

    whole = table(longest)
    over = _overhang(whole, screen)
    return table(max(longest - over, min(longest, 16))) if over else whole


def _print(table: Table, screen: Screen) -> None:
    """Print a table as wide as it is: numbers are of no use when they are cut."""
    Console(file=screen.out.file, width=_width(table, screen)).print(table)


def _compare(files: Sequence[str], screen: Screen) -> NoReturn:
    """Show what changed between two result files."""
    with screen.work():
        if len(files) != 2:
            raise InputError(
                f"bench compare takes two result files, and got {len(files)}: "
                "ivyport bench compare A.json B.json"
            )
        from ivyport.bench.compare import HEADER, compare

        changes, different = compare(Path(files[0]), Path(files[1]))
    if screen.as_json:
        found = [change.to_json() for change in changes]
        screen.json({"changes": found, "environment": different})
        raise typer.Exit(OK)
    rows = [change.cells() for change in changes]
    _print(_compared(HEADER, rows, screen), screen)
    for line in different:
        screen.line(f"not the same: {line}")
    raise typer.Exit(OK)
