"""Captures a live `torch.nn.Module` with torch.export, in eval and in train mode.

The result, a `TorchTrace`, is everything that the lowering needs and nothing of this
package's own graph: the exported programs before any decomposition, every module call
with the fx nodes of its arguments and results, the module tree, tied parameters,
symbolic dimensions, and the structure of the output.

Sources: https://docs.pytorch.org/docs/stable/export.html,
https://docs.pytorch.org/docs/stable/fx.html.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import fx
from torch.export import ExportedProgram

from ivyport.core.checks import Check, Line, assumption
from ivyport.core.errors import IvyportError, TraceError
from ivyport.core.proofs import Reduced, by_mode, reduced
from ivyport.frontends.nested import (
    Given,
    qualified_name,
)
from ivyport.frontends.torch import dims as dims_
from ivyport.frontends.torch.errors import (
    brief,
    for_inference,
    is_data_dependent,
    is_untraced,
    place,
    trace_error,
)
from ivyport.frontends.torch.gradients import refuse_hooks, visible
from ivyport.frontends.torch.guards import GuardLog
from ivyport.frontends.torch.hooks import (
    ModuleCall,
    Recorder,
    module_names,
    rng_state,
)
from ivyport.frontends.torch.inputs import Inputs, bind_inputs, prepare, structured
from ivyport.frontends.torch.kinds import demand_inputs, placed
from ivyport.frontends.torch.lengths import lengths_free
from ivyport.frontends.torch.memory import refuse_memory, written
from ivyport.frontends.torch.randomness import Quieting, refused, watched
from ivyport.frontends.torch.regions import tidy
from ivyport.frontends.torch.replay import (
    asks_for_types,
    breaking,
    differs,
    resized,
)
from ivyport.frontends.torch.session import preserved, quiet
from ivyport.frontends.torch.tensors import tensor_aliases
from ivyport.frontends.torch.transforms import NeedsAutograd, transforms_traced
from ivyport.frontends.torch.whole import operations_whole

_TYPED = ("the source asks for its type, and does something else for an int", None)

Scalar = int | float | str | bool


@dataclasses.dataclass
class TorchTrace:
    """What a capture found; see the module's docstring.

    `program` is the eval capture. Both programs are un-decomposed and *not*
    functionalised (`add_`, `index_put_` occur), their `no_grad` regions are inlined,
    and their root returns a flat tuple of tensors whose structure is `output_spec`
    (leaves are `nested.Leaf`). `train_program` is None when no train capture was
    asked for.

    `module_attrs` has the public scalar attributes of each module; `module_classes`
    every module path, called or not. `param_aliases` maps the canonical name of a
    parameter or buffer (the first in `named_parameters`) to the other names of the same
    tensor, none left out; `ExportedProgram` may use any of them.

    `dims` maps each symbol to (human name, lower, upper or None); `input_dims` maps
    each input to its symbolic axes, as expressions of these symbols. `input_nodes` has
    the placeholder of each input in `program`, `train_input_nodes` in `train_program`.
    `given` are the arguments of the call, and constants that the capture sets by itself.
    `notes` are sentences about what had to be given up. `assumed` are the conditions on
    sizes, by human names, under which `program` is right, `assumed_in_training` those of both
    captures, `fixed` the lines that made axes constant.
    """

    program: ExportedProgram
    train_program: ExportedProgram | None
    calls: list[ModuleCall]
    train_calls: list[ModuleCall]
    module_attrs: dict[str, dict[str, Scalar]]
    module_classes: dict[str, str]
    param_aliases: dict[str, tuple[str, ...]]
    input_names: list[str]
    given: tuple[Given, ...]
    dims: dict[str, tuple[str, int, int | None]]
    output_spec: Any
    notes: list[str]
    train_dims: dict[str, tuple[str, int, int | None]]
    input_dims: dict[str, dict[int, str]]
    input_nodes: dict[str, fx.Node]
    train_input_nodes: dict[str, fx.Node]
    train_output_spec: Any
    assumed: Reduced
    assumed_in_training: Reduced
    fixed: dict[dims_.Axis, Line | None]

    def in_training(self) -> TorchTrace:
        """The train capture in the place of the eval one."""
        assert self.train_program is not None
        return dataclasses.replace(
            self,
            program=self.train_program,
            calls=self.train_calls,
            dims=self.train_dims,
            input_nodes=self.train_input_nodes,
            output_spec=self.train_output_spec,
            assumed=self.assumed_in_training,
        )


#: Asked of each eval capture: the dimensions that have to be constant, and why.
Probe = Callable[[ExportedProgram, Mapping[str, str], Reduced], Mapping[str, str]]


@dataclasses.dataclass
class _Capture:
    program: ExportedProgram
    calls: list[ModuleCall]
    inputs: dict[str, fx.Node]
    spec: Any
    dims: dims_.Dims
    plan: dims_.Plan
    host_random: list[str]
    notes: list[str]

    def humans(self) -> dict[str, str]:
        """The human name of each of torch's symbols."""
        return {symbol: name for symbol, (name, _, _) in self.dims.symbols.items()}

    def assumed(self, *others: _Capture) -> Reduced:
        """What this capture and the others take for granted of sizes."""
        checks = [c for x in (self, *others) for c in x.dims.assumed.checks]
        names = dict.fromkeys(n for x in (self, *others) for n in x.humans().values())
        return reduced(checks, names)


def trace(
    model: torch.nn.Module,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    dims: Mapping[str, Mapping[int, str | None]] | None = None,
    train: bool = True,
    probe: Probe | None = None,
) -> TorchTrace:
    """Capture `model` on example inputs; neither the model nor its config is changed.

    `args` are bound to the names of `forward`. Tensors (also inside tuples, lists and
    dicts) are inputs; everything else is a constant of the capture. `dims` overrides
    which axes stay symbolic: {input: {axis: name, or None for a constant}}; axes of one
    name are equal. The default keeps axis 0 ('batch') and axis 1 of matrices ('seq',
    'decoder_seq', 'samples'). `probe` tells of an eval capture which dimensions it cannot
    be used with.

    Raises InputError when the inputs do not fit the signature of `forward` or `dims`
    does not fit the inputs, and TraceError when the model cannot be captured, for
    instance because its control flow depends on data.
    """
    refuse_hooks(model)
    inputs = bind_inputs(model, args, kwargs or {})
    demand_inputs(model, inputs.leaves)
    inputs = inputs.refilled(placed(model, inputs.leaves))
    first = dims_.time_first(model)
    plan = dims_.plan_dims(inputs.leaves, dims, time_first=first)
    modules = {paths[0]: m for m, paths in module_names(model).items()}
    attrs = {path: _scalars(module) for path, module in modules.items()}
    with preserved(model), quiet(), _seen_whole(model):
        given = prepare(model, inputs)
        evaluated, trained, found = _capture_both(model, inputs, plan, probe, train)
    assumed = evaluated.assumed()
    both = evaluated.assumed(*([trained] if trained else []))
    notes = _notes(evaluated, trained, dims or {})
    notes += [assumption(check) for check in by_mode(assumed, both)]
    return TorchTrace(
        program=evaluated.program,
        train_program=trained.program if trained else None,
        calls=evaluated.calls,
        train_calls=trained.calls if trained else [],
        module_attrs=attrs,
        module_classes=_classes(modules),
        param_aliases=tensor_aliases(model),
        input_names=list(found.leaves),
        given=given,
        dims=evaluated.dims.symbols,
        output_spec=evaluated.spec,
        notes=notes,
        train_dims=trained.dims.symbols if trained else {},
        input_dims=evaluated.dims.inputs,
        input_nodes=evaluated.inputs,
        train_input_nodes=trained.inputs if trained else {},
        train_output_spec=trained.spec if trained else None,
        assumed=assumed,
        assumed_in_training=both,
        fixed=evaluated.dims.fixed,
    )


@contextlib.contextmanager
def _seen_whole(model: torch.nn.Module) -> Iterator[None]:
    """What a model calls is traced as its source says it, for as long as this is open."""
    with transforms_traced(), operations_whole(), lengths_free(model):
        yield


def _capture_both(
    model: torch.nn.Module,
    inputs: Inputs,
    plan: dims_.Plan,
    probe: Probe | None,
    train: bool,
) -> tuple[_Capture, _Capture | None, Inputs]:
    """The captures of both modes with the same free dimensions, and their inputs."""
    while True:
        evaluated, found = _capture_free(model, inputs, plan, probe)
        if not train:
            return evaluated, None, found
        trained = _capture_train(model, found, evaluated)
        fixed = _fixed_in_training(evaluated, trained)
        if not fixed:
            return evaluated, trained, found
        plan = _given_up(evaluated.plan, fixed)
        model.eval()


def _classes(modules: Mapping[str, torch.nn.Module]) -> dict[str, str]:
    return {path: qualified_name(type(module)) for path, module in modules.items()}


def _notes(
    evaluated: _Capture,
    trained: _Capture | None,
    dims: Mapping[str, Mapping[int, str | None]],
) -> list[str]:
    """What had to be given up, as sentences."""
    notes = [*evaluated.plan.notes.values(), *evaluated.notes, *evaluated.dims.notes]
    notes += _never_free(evaluated, dims)
    notes += [
        f"Input '{name}' is not used by the model."
        for name, node in evaluated.inputs.items()
        if not node.users
    ]
    return notes + [n for n in (trained.notes if trained else []) if n not in notes]


def _never_free(
    captured: _Capture, dims: Mapping[str, Mapping[int, str | None]]
) -> list[str]:
    """A note on axes that nobody asked to be constant, of inputs with three axes and more."""
    notes = []
    for leaf, node in captured.inputs.items():
        shape = node.meta["val"].shape
        asked = {axis % len(shape) for axis in dims.get(leaf, {})} if shape else set()
        known = {
            axis
            for name, axis in captured.dims.fixed
            if name == leaf and _is_noted(captured.plan, (name, axis))
        }
        axes = [
            axis
            for axis, size in enumerate(shape)
            if isinstance(size, int) and axis not in asked | known
        ]
        if len(shape) > 2 and axes:
            sizes = ", ".join(f"{axis} is {int(shape[axis])}" for axis in axes)
            notes.append(
                f"Sizes of '{leaf}' that the port is made for: axis {sizes}. Name an "
                "axis in dims to have it free."
            )
    return notes


def _is_noted(plan: dims_.Plan, axis: dims_.Axis) -> bool:
    return axis in plan.fixed or plan.axes().get(axis) not in plan.hoped


def _given_up(
    plan: dims_.Plan, fixed: Mapping[str, tuple[str, Line | None]]
) -> dims_.Plan:
    """The plan with these dimensions constant, and a note of each."""
    notes = dict(plan.notes)
    for name, (why, line) in fixed.items():
        ((leaf, axis), *_) = (
            plan.groups.get(name) or plan.single.get(name) or (("?", 0),)
        )
        at = f" at {line}" if line else ""
        notes[name] = (
            f"Dimension '{name}' (axis {axis} of '{leaf}') is fixed at the example's "
            f"size: {why}{at}."
        )
        plan = plan.without([name], line)
    return dataclasses.replace(plan, notes=notes)


def _fixed_in_training(
    evaluated: _Capture, trained: _Capture
) -> dict[str, tuple[str, Line | None]]:
    """Dimensions that only the train capture made constant."""
    found: dict[str, tuple[str, Line | None]] = {}
    for name, axes in evaluated.plan.groups.items():
        leaf, axis = axes[0]
        free = axis in evaluated.dims.inputs.get(leaf, {})
        if free and axis not in trained.dims.inputs.get(leaf, {}):
            line = trained.dims.fixed.get((leaf, axis))
            found[name] = ("train mode computes for that size alone", line)
    return found | {
        name: ("train mode does arithmetic with it that no check can say", line)
        for name, line in trained.dims.assumed.unclear.items()
        if name in evaluated.plan.groups
    }


def _capture_free(
    model: torch.nn.Module, inputs: Inputs, plan: dims_.Plan, probe: Probe | None
) -> tuple[_Capture, Inputs]:
    """The eval capture and its inputs; a batch of 1 is captured as one of 2.

    torch takes sizes of 1 for constants. The example's one stays where the model cannot
    run on two, makes two a constant, or does something else than with one.
    """
    captured = _capture_usable(model, inputs, plan, probe)
    if not plan.single:
        return captured, inputs
    doubled = inputs.doubled(plan)
    with contextlib.suppress(TraceError):
        free = _capture_usable(model, doubled, plan.doubled(), probe)
        sizes, bounds = free.dims.inputs, free.assumed().bounds
        axes = [axis for axes in plan.single.values() for axis in axes]
        if (
            all(axis in sizes[leaf] for leaf, axis in axes)
            and all(bounds.get(name, (1, None))[0] == 1 for name in plan.single)
            and captured.plan.groups.keys() <= free.plan.groups.keys()
            and _steps(captured.program) == _steps(free.program)
        ):
            return free, doubled
    return captured, inputs


def _capture_usable(
    model: torch.nn.Module, inputs: Inputs, plan: dims_.Plan, probe: Probe | None
) -> _Capture:
    """The eval capture with dimensions constant for which it would not be right."""
    notes: list[str] = []
    while True:
        captured = _capture_any(model, inputs, plan)
        notes += captured.notes
        plan = captured.plan
        fixed = _unusable(captured, probe)
        known = {n: why for n, why in fixed.items() if n in plan.groups}
        if not known and plan.groups and asks_for_types(model):
            wrong = differs(model, captured.program, inputs.exported())
            known = dict.fromkeys(plan.groups, _TYPED) if wrong else {}
        if not known:
            captured.notes[:] = notes
            return _tried(model, inputs, captured)
        plan = _given_up(plan, known)


def _tried(model: torch.nn.Module, inputs: Inputs, captured: _Capture) -> _Capture:
    """The capture with those questions of libraries as conditions that do make a difference."""
    known, groups = captured.dims.assumed, captured.plan.groups
    checks: list[Check] = []
    answers: dict[tuple[tuple[str, int], ...], bool] = {}
    for check in known.doubtful:
        sizes = breaking(check, captured.assumed(), _sizes(inputs, groups))
        if sizes is None:
            continue
        key = tuple(sizes.items())
        if key not in answers:
            given = inputs.exported()
            for name, size in sizes.items():
                for leaf, axis in groups[name]:
                    given[leaf] = resized(given[leaf], axis, size)
            answers[key] = differs(model, captured.program, given)
        if answers[key]:
            checks.append(check)
    if not checks:
        return captured
    told = dataclasses.replace(known, checks=(*known.checks, *checks))
    found = dataclasses.replace(captured.dims, assumed=told)
    return dataclasses.replace(captured, dims=found)


def _sizes(
    inputs: Inputs, groups: Mapping[str, Sequence[dims_.Axis]]
) -> dict[str, int]:
    """The example's size of each dimension."""
    return {
        name: inputs.leaves[leaf].shape[axis]
        for name, ((leaf, axis), *_) in groups.items()
    }


def _unusable(
    captured: _Capture, probe: Probe | None
) -> dict[str, tuple[str, Line | None]]:
    """Dimensions that have to be constant: what is due of them cannot be checked."""
    assumed = captured.assumed()
    fixed: dict[str, tuple[str, Line | None]] = {
        name: ("the source does arithmetic with it that no check can say", line)
        for name, line in captured.dims.assumed.unclear.items()
    }
    for check in assumed.checks:
        if check.relation == "==" and assumed.bounds.get(str(check.left)) == (
            check.right,
            check.right,
        ):
            fixed[str(check.left)] = ("the source computes for it alone", check.line)
    if not fixed and probe is not None:
        found = probe(captured.program, captured.humans(), assumed)
        fixed = {name: (why, None) for name, why in found.items()}
    return fixed


def _steps(program: ExportedProgram) -> list[tuple[Any, int]]:
    """What a program computes, without sizes: each operation and the rank of its result."""
    return [
        (node.target, node.meta["val"].dim())
        for node in program.graph.nodes
        if node.op == "call_function"
        if isinstance(node.meta.get("val"), torch.Tensor)
        if not _is_whole(node)
    ]


def _is_whole(node: fx.Node) -> bool:
    """Whether a node is `x[:]`, which torch leaves out where the size is a constant."""
    if node.target is not torch.ops.aten.slice.Tensor:
        return False
    (source,) = node.all_input_nodes[:1]
    # As text: two sizes that depend on data cannot be compared.
    return str(node.meta["val"].shape) == str(source.meta["val"].shape)


def _capture_any(model: torch.nn.Module, inputs: Inputs, plan: dims_.Plan) -> _Capture:
    """The eval capture, with fewer symbolic dimensions if it fails with all of them."""
    error, recorder = None, None
    for attempt in [plan, *plan.weaker()]:
        captured = _capture(model, inputs, attempt)
        if isinstance(captured, _Capture):
            if error is not None:
                given_up = [name for name in plan.groups if name not in attempt.groups]
                listed = ", ".join(f"'{name}'" for name in given_up)
                captured.notes.append(
                    f"Fixed to the example's size: {listed}. With it symbolic the "
                    f"capture fails with {brief(error)}"
                )
            return captured
        failure, failed = captured
        if error is None:
            error, recorder = failure, failed
        if is_data_dependent(failure):
            break
    assert error is not None
    assert recorder is not None
    raise _wrapped(model, inputs, recorder, error, "eval") from None


def _capture_train(
    model: torch.nn.Module, inputs: Inputs, evaluated: _Capture
) -> _Capture:
    """The train capture; layers and features that Python drops are kept, with a note."""
    quieting = Quieting(model)
    while True:
        model.train()
        quieting.apply()
        captured = _capture(model, inputs, evaluated.plan, quieting)
        if not isinstance(captured, _Capture):
            error, recorder = captured
            if quieting.add(recorder.where):
                continue
            raise for_inference(_wrapped(model, inputs, recorder, error, "train"))
        added = [quieting.add(path) for path in captured.host_random]
        if captured.host_random and not all(added):
            path = captured.host_random[added.index(False)]
            with watched(rng_state) as lines:
                _capture(model, inputs, evaluated.plan, quieting)
            owner = model.get_submodule(path) if path else model
            where = place(path, qualified_name(type(owner)))
            raise for_inference(refused(where, lines[0] if lines else None))
        if added:
            continue
        captured.notes += quieting.notes()
        return captured


def _wrapped(
    model: torch.nn.Module,
    inputs: Inputs,
    recorder: Recorder,
    error: BaseException,
    mode: str,
) -> IvyportError:
    path = recorder.where
    owner = model.get_submodule(path) if path else model
    return trace_error(
        error,
        module=path,
        cls=qualified_name(type(owner)),
        mode=mode,
        inputs=inputs.describe(),
    )


def _capture(
    model: torch.nn.Module,
    inputs: Inputs,
    plan: dims_.Plan,
    quieting: Quieting | None = None,
) -> _Capture | tuple[BaseException, Recorder]:
    """One export; a failure of torch or of the model is returned with its recorder.

    `quieting` is given in train mode.
    """
    exported = inputs.exported()
    shapes = {name: dims_.shapes_of(name, x, plan) for name, x in exported.items()}
    recorder = Recorder(model, plan.groups, watch_rng=quieting is not None)
    log = GuardLog()
    with contextlib.ExitStack() as stack:
        if quieting is not None:
            stack.enter_context(quieting.pinned(lambda: recorder.where))
        for watch in (recorder, log, visible(lambda: recorder.where)):
            stack.enter_context(watch)
        try:
            program = _export(model, exported, shapes, recorder)
        except IvyportError:
            raise
        # Whatever a model's code raises is an answer here, `sys.exit` too; it is raised in the
        # end.
        except (Exception, SystemExit) as error:  # noqa: BLE001
            return error, recorder
    if not recorder.finished:
        raise TraceError(
            f"{type(model).__name__} was captured without a call of its forward, so that its "
            "results are not known: put it into a torch.nn.Module whose forward calls it"
        )
    refuse_memory(model, [*recorder.assigned, *written(program)], exported)
    tidy(program)
    calls, nodes = recorder.resolve(program.graph)
    calls[0] = dataclasses.replace(calls[0], args=structured(inputs, nodes))
    found = dims_.read_dims(program, nodes, plan, recorder, log)
    return _Capture(
        program, calls, nodes, recorder.spec, found, plan, recorder.host_random, []
    )


def _export(
    model: torch.nn.Module, exported: Mapping[str, Any], shapes: Any, recorder: Recorder
) -> ExportedProgram:
    """One program; modules that call autograd, once known, are traced below it."""
    while True:
        try:
            return torch.export.export(
                model,
                (),
                dict(exported),
                dynamic_shapes=shapes,
                strict=False,
            )
        except NeedsAutograd:
            path = recorder.where
            recorder.restart(model.get_submodule(path) if path else model)
        except RuntimeError as error:
            # What autograd recorded may be of the modules around as well: then of all of them.
            if not recorder.below or model in recorder.below or not is_untraced(error):
                raise
            recorder.restart(model)


def _scalars(module: torch.nn.Module) -> dict[str, Scalar]:
    """Public int, float, str and bool attributes of one module, without 'training'."""
    return {
        name: value
        for name, value in vars(module).items()
        if type(value) in (int, float, str, bool)
        and not name.startswith("_")
        and name != "training"
    }
