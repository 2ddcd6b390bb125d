"""The verification of a port: what is compared, in which order.

On the traced inputs: every output and the gradient of every parameter, of a seeded
scalar of the outputs. On fresh inputs of other sizes: every output. Then one training
step, with batch norm in train mode where the source has it, and dropout off. Both sides
compute at full precision, and neither model is changed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ivyport.core.dtype import FLOATS
from ivyport.core.errors import InputError
from ivyport.core.report import Report, ReportRow, worst
from ivyport.verification import compare, drift
from ivyport.verification.compare import Array, Entry, Flat
from ivyport.verification.gradients import GradientCheck
from ivyport.verification.second import Bounds, Free, Sizes, fresh, plans, sizes_of
from ivyport.verification.tolerance import DEFAULT, Tolerances
from ivyport.weights.mapping import WeightMap

if TYPE_CHECKING:
    import torch
    from flax import nnx

    from ivyport.verification.nnx_side import NNXSide
    from ivyport.verification.torch_side import TorchSide

#: Called with the stage's name, how many of its steps are done, and how many it has.
Progress = Callable[[str, int, int], None]

SEED = 20240229
STEPS = 5
#: The step's first-order change of the scalar, in units of the scalar's own spread:
#: large enough to see a wrong step, small enough for a network to stay near linear.
STEP_CHANGE = 1e-2


def run(
    source: torch.nn.Module,
    ported: nnx.Module,
    weight_map: WeightMap,
    modules: Mapping[str, str],
    kwargs: Mapping[str, Any],
    *,
    second: Mapping[str, Any] | None = None,
    free: Free | None = None,
    bounds: Bounds | None = None,
    tolerance: Tolerances = DEFAULT,
    progress: Progress | None = None,
) -> Report:
    """Compare `ported` with `source`; neither is changed.

    Args:
        source: the torch model, in any mode.
        ported: the Flax NNX port, in any mode.
        weight_map: leads from the source's parameters to the port's.
        modules: source module path to the port's attribute path, to localise drift.
        kwargs: the traced inputs by the source's argument names; everything that is no
            tensor goes to the source alone, since the port has it built in.
        second: other inputs. By default fresh ones are drawn, of other sizes along the
            `free` axes of `kwargs` within `bounds`.
        free: by input, the axes that the trace left free: a name or an expression.
        bounds: smallest and largest size by name.
        tolerance: largest errors by dtype.
        progress: called with 'verify', the steps done and all steps.

    Raises:
        InputError: the source itself does not take the inputs.
    """
    import jax

    from ivyport.verification.nnx_side import NNXSide
    from ivyport.verification.torch_side import TorchSide, full_precision

    with full_precision(), jax.default_matmul_precision("highest"):
        verification = _Verification(
            TorchSide(source, kwargs),
            NNXSide(ported),
            weight_map,
            dict(modules),
            tolerance,
            progress or _silent,
        )
        if second is None:
            return verification.run(None, free or {}, bounds or {})
        given = TorchSide(source, second).numpy_inputs()
        return verification.run(given, free or {}, bounds or {})


def _silent(stage: str, done: int, total: int) -> None:
    """No progress."""


@dataclasses.dataclass
class _Verification:
    source: TorchSide
    port: NNXSide
    weight_map: WeightMap
    modules: dict[str, str]
    tolerance: Tolerances
    progress: Progress
    rows: list[ReportRow] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)
    drift: str | None = None
    done: int = 0

    def run(
        self, second: Mapping[str, Array] | None, free: Free, bounds: Bounds
    ) -> Report:
        """Every comparison, and where the first failing one comes from."""
        self.progress("verify", 0, STEPS)
        inputs = self.source.numpy_inputs()
        if self._traced(inputs):
            sizes = self._second(inputs, second, free, bounds)
            if self.source.has_batch_norm():
                self._train_mode(inputs)
        else:
            sizes = Sizes({}, {})
        self.progress("verify", STEPS, STEPS)
        if self.drift is None:
            self.drift = drift.first_gradient_drift(self.rows, self.weight_map)
        if self.source.lost:
            names = ", ".join(sorted(self.source.lost))
            self.notes.append(f"outputs that are no tensors are not ported: {names}")
        if self.source.padding:
            self.notes.append(
                "torch keeps the padding rows of its embeddings as they are in "
                "training, the port trains them; gradients are compared with these "
                f"rows trained: {', '.join(sorted(self.source.padding))}"
            )
        if self.tolerance.reason:
            self.notes.append(f"wider tolerances: {self.tolerance.reason}")
        dims = {n: (s, sizes.second[n]) for n, s in sizes.traced.items()}
        return Report(
            tuple(self.rows), self.drift, self._precision(), dims, tuple(self.notes)
        )

    def _step(self) -> None:
        self.done += 1
        self.progress("verify", self.done, STEPS)

    def _precision(self) -> str:
        dtypes = {value.dtype.name for value in self.port.values.values()}
        floats = sorted(dtypes & set(FLOATS)) or ["float32"]
        return f"{', '.join(floats)} at full precision"

    # ---- the traced inputs

    def _traced(self, inputs: Mapping[str, Array]) -> bool:
        """Outputs and gradients on the traced inputs; whether the port ran at all."""
        from ivyport.verification.nnx_side import PortFails

        weights: dict[str, Array] = {}
        with self._source_accepts():
            expected = self.source.gradients(_remember(weights))
        self._step()
        try:
            actual = self.port.gradients(inputs, weights)
        except PortFails as error:
            self._failed("forward", Entry("output"), str(error), inputs)
            return False
        self._step()
        self._outputs(actual.outputs, expected.outputs, Entry("output"), inputs)
        if _comparable(actual.outputs, expected.outputs, weights):
            entry = Entry("gradient")
            self.rows += self._gradients.rows(
                actual.gradients, expected.gradients, weights, entry
            )
            if not self.source.has_batch_norm():
                change = STEP_CHANGE * _spread(expected.outputs, weights)
                self._after_step(
                    inputs, weights, actual.gradients, expected.gradients, change
                )
        else:
            self.notes.append("gradients are not compared: outputs have other shapes")
        self._step()
        return True

    def _outputs(
        self, actual: Flat, expected: Flat, entry: Entry, inputs: Mapping[str, Array]
    ) -> None:
        rows = compare.compare_outputs(actual, expected, entry, self._output_limit)
        self.rows += rows
        failing = [row for row in rows if not row.passed]
        if failing:
            self._localise(inputs, max(row.tolerance for row in failing))

    def _failed(
        self, name: str, entry: Entry, problem: str, inputs: Mapping[str, Array]
    ) -> None:
        self.rows.append(compare.failed(name, entry, problem))
        self._localise(inputs, self._output_limit("float32"))

    def _localise(self, inputs: Mapping[str, Array], limit: float) -> None:
        if self.drift is None:
            self.drift = drift.first_drift(
                self.source, self.port, inputs, self.modules, limit
            )

    @property
    def _gradients(self) -> GradientCheck:
        return GradientCheck(self.source, self.weight_map, self.tolerance)

    def _output_limit(self, dtype: str) -> float:
        return self.tolerance.of(dtype).output

    def _gradient_limit(self, dtype: str) -> float:
        return self.tolerance.of(dtype).gradient

    @contextlib.contextmanager
    def _source_accepts(self) -> Iterator[None]:
        try:
            yield
        # Whatever the user's model raises, the inputs are what it was given.
        except Exception as error:
            shapes = {n: tuple(t.shape) for n, t in self.source.inputs.items()}
            raise InputError(
                f"the source raises {type(error).__name__} on the inputs {shapes}: "
                f"{error}"
            ) from error

    # ---- other sizes

    def _second(
        self,
        inputs: Mapping[str, Array],
        given: Mapping[str, Array] | None,
        free: Free,
        bounds: Bounds,
    ) -> Sizes:
        """Outputs on inputs of other sizes; the sizes."""
        from ivyport.verification.nnx_side import PortFails

        sizes, second, expected = self._accepted(inputs, given, free, bounds)
        if expected is None:
            return sizes
        self._step()
        entry = Entry("output", "second", sizes.text() or "the traced sizes")
        try:
            actual = self.port.forward(second)
        except PortFails as error:
            self._failed("forward", entry, str(error), second)
            return sizes
        self._outputs(actual.outputs, expected, entry, second)
        self._step()
        return sizes

    def _accepted(
        self,
        inputs: Mapping[str, Array],
        given: Mapping[str, Array] | None,
        free: Free,
        bounds: Bounds,
    ) -> tuple[Sizes, Mapping[str, Array], Flat | None]:
        """Sizes that the source takes, inputs of them, and the source's outputs."""
        if given is not None:
            sizes = Sizes(sizes_of(inputs, free), sizes_of(given, free))
            with self._source_accepts():
                return sizes, given, self.source.forward(given).outputs
        refused = ""
        for sizes in plans(inputs, free, bounds):
            second = fresh(inputs, free, sizes, seed=SEED)
            try:
                return sizes, second, self.source.forward(second).outputs
            # Limits of the source that its trace does not show: the next plan is
            # smaller, and the note below tells when there is none.
            except Exception as error:  # noqa: BLE001
                brief = str(error).partition("\n")[0]
                refused = f"{sizes.text()}: {type(error).__name__}: {brief}"
        self.notes.append(f"no second inputs: the source takes none ({refused})")
        return Sizes({}, {}), {}, None

    # ---- a training step

    def _after_step(
        self,
        inputs: Mapping[str, Array],
        weights: Mapping[str, Array],
        actual: dict[str, Any],
        expected: dict[str, torch.Tensor],
        change: float,
        *,
        train: bool = False,
    ) -> None:
        """Outputs after one step of SGD on each side; the gradients are used up.

        The rate is such that the scalar changes by `change` to first order.
        """
        norm = sum(float(g.norm()) ** 2 for g in expected.values())
        if not norm or not math.isfinite(norm) or not actual:
            return
        rate = change / norm
        parameters = self.source.stepped(expected, rate)
        ours = self.source.forward(parameters=parameters, train=train)
        theirs = self.port.gradients(
            inputs, weights, self.port.stepped(actual, rate), train=train
        )
        entry = Entry("train_step", note="after one step of SGD")
        self.rows += compare.compare_outputs(
            theirs.outputs, ours.outputs, entry, self._gradient_limit
        )

    def _train_mode(self, inputs: Mapping[str, Array]) -> None:
        """Batch norm in train mode: outputs, running statistics, gradients, a step."""
        from ivyport.verification.nnx_side import PortFails

        weights: dict[str, Array] = {}
        try:
            expected = self.source.gradients(_remember(weights), train=True)
        # A batch of one position has no variance; that is the example's fault.
        except ValueError as error:
            self.notes.append(f"batch norm is not trained: {error}")
            return
        entry = Entry("train_step", note="batch norm in train mode")
        try:
            actual = self.port.gradients(inputs, weights, train=True)
        except PortFails as error:
            self.rows.append(compare.failed("forward", entry, str(error)))
            return
        self.rows += compare.compare_outputs(
            actual.outputs, expected.outputs, entry, self._gradient_limit
        )
        self.rows += self._statistics(actual.buffers, expected.buffers, entry)
        if not _comparable(actual.outputs, expected.outputs, weights):
            return
        rows = self._gradients.rows(
            actual.gradients, expected.gradients, weights, entry, train=True
        )
        if rows:
            row = worst(rows)
            self.rows.append(dataclasses.replace(row, name=f"gradient of {row.name}"))
        change = STEP_CHANGE * _spread(expected.outputs, weights)
        self._after_step(
            inputs, weights, actual.gradients, expected.gradients, change, train=True
        )

    def _statistics(
        self, actual: Mapping[str, Any], expected: Mapping[str, Array], entry: Entry
    ) -> list[ReportRow]:
        """Buffers of the port after a forward in train mode."""
        chosen = [r for r in self.weight_map.rows if r.kind == "buffer"]
        chosen = [r for r in chosen if r.source in expected]
        mapped = WeightMap(tuple(chosen))
        rows = []
        for target in dict.fromkeys(row.target for row in chosen):
            source = mapped.read_target(target, expected)
            if target not in actual:
                rows.append(compare.failed(target, entry, "no buffer of the port"))
                continue
            port = np.asarray(actual[target])
            rows.append(
                compare.compare_arrays(
                    target, port, source, entry, self._gradient_limit
                )
            )
        return rows


def _remember(into: dict[str, Array]) -> Callable[[Flat], dict[str, Array]]:
    """Draws the scalar's weights for the source's outputs, and keeps them in `into`.

    A seed by position makes them independent of the other outputs. Infinite outputs
    and the numbers that masks are filled with get the weight 0.
    """

    def draw(outputs: Flat) -> dict[str, Array]:
        for position, (name, array) in enumerate(outputs.arrays().items()):
            if array.dtype.name not in FLOATS:
                continue
            rng = np.random.default_rng([SEED, position])
            drawn = rng.standard_normal(array.shape, np.float32)
            usual = compare.is_usual(array)
            into[name] = drawn if usual is None else np.where(usual, drawn, 0)
        return into

    return draw


def _comparable(actual: Flat, expected: Flat, weights: Mapping[str, Array]) -> bool:
    """Whether the port's scalar is a sum over the same outputs as the source's."""
    ours, theirs = actual.arrays(), expected.arrays()
    return all(n in ours and ours[n].shape == theirs[n].shape for n in weights)


def _spread(outputs: Flat, weights: Mapping[str, Array]) -> float:
    """The standard deviation of the scalar over the draw of its weights."""
    arrays = outputs.arrays()
    total = 0.0
    for name, weight in weights.items():
        kept = np.where(weight == 0, 0, arrays[name].astype(np.float64))
        total += float(np.sum(kept**2))
    return math.sqrt(total)
