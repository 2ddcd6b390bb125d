"""The verification of a port: what is compared, in which order.

On the traced inputs: every output, compiled and eagerly, and the gradient of every
parameter, of a seeded scalar of the outputs. On fresh inputs of other sizes (larger and
smaller, odd and even, a batch of 1): every output, and that the port refuses sizes for
which it was not made, or is right for them. Then which tensors train, where dropout draws,
what train mode computes with dropout off, the state that three calls of it write, and one
training step.
Both sides compute at full precision, and neither model is changed.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ivyport.core import memory
from ivyport.core.arguments import Described, optional
from ivyport.core.checks import Check
from ivyport.core.dtype import FLOATS
from ivyport.core.errors import IvyportError
from ivyport.core.report import Report, ReportRow, worst
from ivyport.verification import compare, drift
from ivyport.verification.beyond import beyond
from ivyport.verification.check import drawn_anew, not_runnable, tied
from ivyport.verification.choose import port_side, source_side
from ivyport.verification.compare import Array, Entry, Flat
from ivyport.verification.modes import dropout_rows, trained_rows
from ivyport.verification.outputs import Outputs
from ivyport.verification.second import Bounds, Free, Sizes, fresh, plans, sizes_of
from ivyport.verification.sides import (
    NoGradients,
    NotFixed,
    PortFails,
    PortRefuses,
    PortSide,
    Result,
    SourceSide,
)
from ivyport.verification.tolerance import DEFAULT, Tolerances
from ivyport.verification.train_mode import QUANTILES, TrainMode, fixed_outputs
from ivyport.verification.training import SEED, Pair, comparable, draw_weights, settle
from ivyport.weights.mapping import WeightMap

#: Called with the stage's name, how many of its steps are done, and how many it has.
Progress = Callable[[str, int, int], None]

STEPS = 5
INFERS = (
    "gradients and train mode: the target computes eval mode alone, and does not train"
)
KEPT = "with dropout of eval mode that keeps everything"


def run(
    source: Any,
    ported: Any,
    weight_map: WeightMap,
    modules: Mapping[str, str],
    kwargs: Mapping[str, Any],
    *,
    second: Mapping[str, Any] | None = None,
    free: Free | None = None,
    bounds: Bounds | None = None,
    checks: Sequence[Check] = (),
    arguments: Described | None = None,
    tolerance: Tolerances = DEFAULT,
    progress: Progress | None = None,
    args: Sequence[Any] = (),
    params: Any = None,
    state: Any = None,
    rng: Any = None,
    through: Mapping[str, str] | None = None,
    known: Sequence[str] = (),
) -> Report:
    """Compare `ported` with `source`; neither is changed.

    Args:
        source: a torch module in any mode; a Flax NNX module; a linen module, a haiku
            transformed function or a function, with its `params`.
        ported: the port, in any mode: a Flax NNX module or a torch module.
        weight_map: leads from the source's parameters to the port's.
        modules: source module path to the port's attribute path, to localise drift.
        kwargs: the traced inputs by the source's argument names; everything that is no
            tensor goes to the source alone, since the port has it built in.
        second: other inputs. By default fresh ones are drawn, of other sizes along the
            `free` axes of `kwargs` within `bounds`.
        free: by input, the axes that the trace left free: a name or an expression.
        bounds: smallest and largest size by name.
        checks: what else sizes have to satisfy.
        arguments: how the port takes its inputs (`ivyport.core.arguments`); by default each
            by its own name.
        tolerance: largest errors by dtype.
        progress: called with 'verify', the steps done and all steps.
        args: inputs by position; `second` has those of a torch module by name, those of
            a JAX source are kept.
        params, state, rng: of a JAX source, what it is called with.
        through: by output, the narrowest dtype that its values were rounded to.
        known: what the port's notes say of it.

    Raises:
        InputError: the source itself does not take the inputs, or `ported` is no port.
    """
    ours = source_side(source, args, kwargs, params=params, state=state, rng=rng)
    theirs = port_side(ported, arguments)
    tolerance = _through(tolerance, through or {})
    with ours.precise(), theirs.precise():
        verification = _Verification(
            ours, theirs, weight_map, dict(modules), tolerance, progress or _silent,
            through or {}, known, tuple(checks), optional(arguments),
        )  # fmt: skip
        given = None if second is None else ours.arrays(second)
        return verification.run(given, free or {}, bounds or {})


def _through(tolerance: Tolerances, through: Mapping[str, str]) -> Tolerances:
    """Gradients pass where the outputs' values did; float32 keeps nothing that was rounded."""
    if not through:
        return tolerance
    dtype = max(through.values(), key=lambda name: tolerance.of(name).gradient)
    return tolerance.wider(
        gradient=tolerance.of(dtype).gradient,
        reason=f"values of {', '.join(map(repr, through))} are rounded to {dtype} on the way",
    )


def _silent(stage: str, done: int, total: int) -> None:
    """No progress."""


@dataclasses.dataclass
class _Verification:
    source: SourceSide
    port: PortSide
    weight_map: WeightMap
    modules: dict[str, str]
    tolerance: Tolerances
    progress: Progress
    through: Mapping[str, str]
    known: Sequence[str]
    checks: tuple[Check, ...] = ()
    optional: Sequence[str] = ()
    rows: list[ReportRow] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)
    unchecked: list[str] = dataclasses.field(default_factory=list)
    #: Outputs that the source draws anew in each call.
    drawn: set[str] = dataclasses.field(default_factory=set)
    drift: str | None = None
    done: int = 0

    def run(
        self, second: Mapping[str, Array] | None, free: Free, bounds: Bounds
    ) -> Report:
        """Every comparison, and where the first failing one comes from."""
        self.progress("verify", 0, STEPS)
        inputs = self.source.arrays()
        dims: dict[str, tuple[int, ...]] = {}
        if self._traced(inputs):
            self._left_out(inputs)
            dims = self._other_sizes(inputs, second, free, bounds)
            self._training(inputs)
        self.progress("verify", STEPS, STEPS)
        if self.drift is None:
            self.drift = drift.first_gradient_drift(self.rows, self.weight_map)
        self.notes += self.source.notes()
        if not all(row.passed for row in self.rows):
            self.notes += tied(self.source, inputs)
        if self.tolerance.reason:
            self.notes.append(f"wider tolerances: {self.tolerance.reason}")
        return Report(
            tuple(self.rows),
            self.drift,
            self._precision(),
            dims,
            tuple(self.notes),
            tuple(dict.fromkeys(self.unchecked)),
        )

    def _step(self) -> None:
        self.done += 1
        memory.give_back()
        self.progress("verify", self.done, STEPS)

    def _precision(self) -> str:
        floats = sorted(self.port.dtypes() & set(FLOATS)) or ["float32"]
        return f"{', '.join(floats)} at full precision"

    def _training(self, inputs: dict[str, Array]) -> None:
        """Which tensors train, where dropout draws, and what train mode computes."""
        if self.port.infers:
            self.unchecked.append(INFERS)
            return
        self.rows += trained_rows(self.source, self.port, self.weight_map)
        self.rows += dropout_rows(self.source, self.port, inputs, self.known)
        self._train_mode().compare(inputs)

    # ---- the traced inputs

    def _traced(self, inputs: Mapping[str, Array]) -> bool:
        """Outputs and gradients on the traced inputs; whether the port ran at all."""
        if self.port.infers:
            return self._untrained(inputs)
        try:
            with self._source_accepts():
                expected = self._pair.expected(draw_weights)
        except NoGradients as error:
            self.unchecked.append(
                f"gradients: they are not available in the source ({error})"
            )
            return self._untrained(inputs)
        self._step()
        self.port.silent = self.source.drops
        try:
            actual = self.port.gradients(inputs, expected.weights)
        except PortFails as error:
            self._failed("forward", Entry("output"), str(error), inputs)
            return False
        self._step()
        self._outputs(actual.outputs, expected.outputs, Entry("output"), inputs)
        self._keeping(inputs)
        self._unweighted(expected)
        self._eagerly(expected.outputs, inputs)
        pair = self._pair
        if self.drawn:
            del expected, actual
            found = self._with_draws_fixed(inputs)
            if found is None:
                return True
            pair, expected, actual = found
        if comparable(actual.outputs, expected):
            weights = expected.weights
            rows = pair.eval_rows(inputs, expected, actual)
            del expected, actual
            self.rows += settle(rows, pair, inputs, weights, train=False)
        else:
            self.unchecked.append("gradients: outputs have other shapes")
        self._step()
        return True

    def _with_draws_fixed(
        self, inputs: Mapping[str, Array]
    ) -> tuple[Pair, Result, Result] | None:
        """Gradients of outputs that are drawn: of both sides with every draw fixed."""
        pair = dataclasses.replace(
            self._pair,
            source=self.source.fixed(QUANTILES[0]),
            port=self.port.fixed(QUANTILES[0]),
        )
        try:
            expected = pair.expected(draw_weights)
            return pair, expected, pair.port.gradients(inputs, expected.weights)
        except (NotFixed, PortFails) as error:
            self.unchecked.append(f"gradients of outputs that are drawn: {error}")
            return None

    def _untrained(self, inputs: Mapping[str, Array]) -> bool:
        """Outputs alone, where one side has no gradients; whether the port ran."""
        with self._source_accepts():
            expected = self.source.forward(inputs).outputs
        self.port.silent = self.source.drops
        try:
            actual = self.port.forward(inputs)
        except PortFails as error:
            self._failed("forward", Entry("output"), str(error), inputs)
            return False
        self._outputs(actual.outputs, expected, Entry("output"), inputs)
        self._eagerly(expected, inputs)
        return True

    def _unweighted(self, expected: Result) -> None:
        """Say which outputs have no part in the gradients, and which are NaN alone."""
        for name, array in expected.outputs.arrays().items():
            kind = np.asarray(array).dtype.kind
            if kind == "c":
                self.unchecked.append(f"gradients through the complex output {name!r}")
            if kind not in "biu" and np.size(array) and bool(np.isnan(array).all()):
                self.unchecked.append(f"output {name!r}: the source gives NaN alone")

    def _eagerly(self, expected: Flat, inputs: Mapping[str, Array]) -> None:
        """One row for the call that is not compiled, where calls can be."""
        entry = Entry("output", note="eagerly")
        try:
            actual = self.port.eagerly(inputs)
        except PortFails as error:
            self._failed("forward", entry, str(error), inputs)
            return
        if actual is not None:
            rows = self._compared(actual.outputs, expected, entry, None)
            rows = [row for row in rows if row.name not in self.drawn]
            self.rows += [worst(rows)] if rows else []

    def _train_mode(self) -> TrainMode:
        return TrainMode(
            self._pair, self.known, self.through, self.rows, self.notes, self.unchecked
        )

    @property
    def _pair(self) -> Pair:
        return Pair(
            self.source,
            self.port,
            self.weight_map,
            self.tolerance,
            unchecked=self.unchecked,
        )

    def _compared(
        self,
        actual: Flat,
        expected: Flat,
        entry: Entry,
        inputs: Mapping[str, Array] | None,
    ) -> list[ReportRow]:
        compared = Outputs(self.source, self.port, self.tolerance, self.through)
        return compared.rows(actual, expected, entry, inputs)

    def _outputs(
        self,
        actual: Flat,
        expected: Flat,
        entry: Entry,
        inputs: Mapping[str, Array],
        *,
        one: bool = False,
    ) -> None:
        """A row for each output, or `one` of the worst; where failing ones come from."""
        rows = self._compared(actual, expected, entry, inputs)
        failing = [row for row in rows if not row.passed]
        drawn = {row.name for row in failing if drawn_anew(self.source, row.name)}
        self._drawn(drawn, entry, inputs)
        rows = [row for row in rows if row.passed or row.name not in drawn]
        self.rows += [worst(rows)] if one and len(rows) > 1 else rows
        failing = [row for row in failing if row.name not in drawn]
        if failing:
            self._localise(inputs, max(row.tolerance for row in failing))

    def _keeping(self, inputs: Mapping[str, Array]) -> None:
        """A row for dropout of eval mode that keeps everything, and scales as it does."""
        if not self.source.drops:
            return
        try:
            found = fixed_outputs(self.source, self.port, inputs)
        except PortFails as error:
            self._failed("forward", Entry("output", note=KEPT), str(error), inputs)
            return
        except NotFixed:
            found = None
        if found is None:
            self.unchecked.append("dropout of eval mode: where it drops")
            return
        compared = Outputs(self.source, self.port, self.tolerance, self.through)
        rows = compared.compared(*found, Entry("output", note=KEPT))
        self.rows += [worst(rows)] if rows else []

    def _drawn(
        self, names: set[str], entry: Entry, inputs: Mapping[str, Array]
    ) -> None:
        """Outputs that the source draws anew in each call, with every draw fixed."""
        if not names:
            return
        self.drawn |= names
        why = ""
        try:
            found = fixed_outputs(self.source, self.port, inputs)
        except NotFixed as error:
            found, why = None, f" ({error})"
        if found is None:
            self.unchecked += [
                f"output {name!r}: the source draws it anew in each call{why}"
                for name in sorted(names)
            ]
            return
        compared = Outputs(self.source, self.port, self.tolerance, self.through)
        fixed = dataclasses.replace(entry, note="with every random draw fixed")
        rows = compared.compared(*found, fixed)
        self.rows += [row for row in rows if row.name in names]

    def _failed(
        self, name: str, entry: Entry, problem: str, inputs: Mapping[str, Array]
    ) -> None:
        self.rows.append(compare.failed(name, entry, problem))
        self._localise(inputs, self.tolerance.of("float32").output)

    def _localise(self, inputs: Mapping[str, Array], limit: float) -> None:
        if self.drift is None:
            self.drift = drift.first_drift(
                self.source, self.port, inputs, self.modules, limit
            )

    @contextlib.contextmanager
    def _source_accepts(self) -> Iterator[None]:
        try:
            yield
        except (IvyportError, NoGradients):
            raise
        # Whatever the user's model raises, the inputs are what it was given.
        except Exception as error:
            raise not_runnable(self.source, error) from error

    def _left_out(self, inputs: Mapping[str, Array], text: str = "") -> None:
        """A row for each call without an argument that has a default, and without all of them.

        `text` are the sizes of inputs that are not the traced ones.
        """
        groups = [[name] for name in self.optional]
        if len(groups) > 1:
            groups.append(list(self.optional))
        for names in groups:
            note = f"without {', '.join(names)}"
            entry = (
                Entry("output", "second", f"{text}, {note}")
                if text
                else Entry("output", note=note)
            )
            rest = {name: x for name, x in inputs.items() if name not in names}
            source = self.source.without(names)
            with self._source_accepts():
                expected = source.forward(rest).outputs
            try:
                actual = self.port.forward(rest).outputs
            except PortFails as error:
                self._failed("forward", entry, str(error), inputs)
                continue
            # Rounding is told by this call and not by that with the argument.
            compared = Outputs(source, self.port, self.tolerance, self.through)
            rows = compared.rows(actual, expected, entry, rest)
            rows = [row for row in rows if row.name not in self.drawn]
            self.rows += [worst(rows)] if rows else []

    # ---- other sizes

    def _other_sizes(
        self,
        inputs: Mapping[str, Array],
        given: Mapping[str, Array] | None,
        free: Free,
        bounds: Bounds,
    ) -> dict[str, tuple[int, ...]]:
        """Outputs on inputs of other sizes; the sizes by name, the traced ones first."""
        tried: list[Sizes] = []
        if given is not None:
            sizes = Sizes(sizes_of(inputs, free), sizes_of(given, free))
            with self._source_accepts():
                expected = self.source.forward(given).outputs
            try:
                self._second(sizes, given, expected)
            except PortRefuses as error:
                entry = Entry("output", "second", sizes.text())
                self.rows.append(compare.failed("forward", entry, str(error)))
            tried.append(sizes)
        else:
            for group in plans(inputs, free, bounds, self.checks):
                found = self._accepted(inputs, free, group)
                if found is not None:
                    tried.append(found)
            for sizes in tried[:1]:
                second = fresh(inputs, free, sizes, seed=SEED)
                self._left_out(second, sizes.text() or "the traced sizes")
            for sizes in beyond(inputs, free, bounds, self.checks):
                if all(sizes.second != other.second for other in tried):
                    self._beyond(inputs, free, sizes)
        self._step()
        traced = sizes_of(inputs, free)
        return {n: (m, *(s.second.get(n, m) for s in tried)) for n, m in traced.items()}

    def _accepted(
        self, inputs: Mapping[str, Array], free: Free, group: Sequence[Sizes]
    ) -> Sizes | None:
        """The first sizes of a group that both sides take, once they are compared.

        A source may have limits that its trace does not show (a table of positions), and
        a port says which sizes it was not made for.
        """
        refused = ""
        for sizes in group:
            second = fresh(inputs, free, sizes, seed=SEED)
            try:
                expected = self.source.forward(second).outputs
            # A limit of the source: the next sizes of the group are nearer.
            except Exception as error:  # noqa: BLE001
                brief = str(error).partition("\n")[0]
                refused = f"the source takes none ({sizes.text()}: {type(error).__name__}: {brief})"
                continue
            try:
                self._second(sizes, second, expected)
            except PortRefuses as error:
                refused = f"the port takes none ({sizes.text()}: {error})"
                continue
            return sizes
        self.unchecked.append(f"{group[0].role} sizes: {refused}")
        return None

    def _beyond(self, inputs: Mapping[str, Array], free: Free, sizes: Sizes) -> None:
        """Compare outputs in sizes that the port need not take, where both sides do.

        The port comes first: where its check refuses, as it should, nothing was computed.
        """
        second = fresh(inputs, sizes.free or free, sizes, seed=SEED)
        actual: Result | PortFails
        try:
            actual = self.port.forward(second)
        except PortRefuses:
            return
        except PortFails as error:
            actual = error
        try:
            expected = self.source.forward(second).outputs
        # A limit of the source: there is nothing to be right about.
        except Exception:  # noqa: BLE001
            return
        entry = Entry("output", "second", sizes.text())
        if isinstance(actual, PortFails):
            self._failed("forward", entry, str(actual), second)
        else:
            self._outputs(actual.outputs, expected, entry, second, one=True)

    def _second(
        self, sizes: Sizes, second: Mapping[str, Array], expected: Flat
    ) -> None:
        entry = Entry("output", "second", sizes.text() or "the traced sizes")
        try:
            actual = self.port.forward(second)
        except PortRefuses:
            raise
        except PortFails as error:
            self._failed("forward", entry, str(error), second)
            return
        self._outputs(actual.outputs, expected, entry, second)
