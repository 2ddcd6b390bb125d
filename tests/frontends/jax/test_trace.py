from __future__ import annotations

import collections
import dataclasses
import functools
import inspect
from typing import Any

import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from ivyport.core.errors import InputError, SourceError, TraceError
from ivyport.core.ir import Record
from ivyport.frontends.jax.dims import Plan, plan_dims, symbolic
from ivyport.frontends.jax.sources import as_key, camel_case, open_source
from ivyport.frontends.jax.structure import is_array, named_arrays
from ivyport.frontends.jax.trace import Capture, capture, capture_free
from ivyport.frontends.nested import Leaf, refill
from tests.frontends.jax.tiny_sources import KEY, SOURCES, Tiny, X, tiny

EVAL = {"deterministic": True}
Pair = collections.namedtuple("Pair", "left right")


@dataclasses.dataclass
class Result:
    """A user's own class of results."""

    logits: Any
    note: str = "n"


def captured(source: Any, *args: Any, dims: Any = None, **given: Any) -> Any:
    return planned(source, *args, dims=dims, **given)[0]


def planned(
    source: Any, *args: Any, dims: Any = None, **given: Any
) -> tuple[Capture, Plan]:
    """The eval capture, and the sizes as they were kept."""
    opened = open_source(source, args, **given)
    opened.check()
    return capture_free(opened, plan_dims(opened.inputs, dims))


# ---- sources


@pytest.mark.parametrize("name", SOURCES)
def test_call_is_what_the_library_computes(name: str) -> None:
    given = tiny(name)
    source = open_source(given.source, (), given.kwargs, **given.given)
    source.check()
    wanted = jax.jit(_reference(source.kind, given, bool(source.train_argument)))()
    call = jax.jit(source.call)
    found = call(source.parameters, source.inputs)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    jax.tree.map(close, found, wanted)
    zeros = {k: jnp.zeros_like(v) for k, v in source.parameters.items()}
    other = jax.tree.leaves(call(zeros, source.inputs))
    pairs = zip(other, jax.tree.leaves(found), strict=True)
    assert any((a != b).any() for a, b in pairs)


def _reference(kind: str, given: Tiny, flagged: bool) -> Any:
    """The source's own outputs in eval mode, by its library's own means."""
    flags = {"is_training": False} if flagged else {}
    params = given.given.get("params")
    if kind == "haiku":
        state = given.given["state"]
        apply = given.source.apply
        return lambda: apply(params, state, None, **given.kwargs, **flags)[0]
    if kind == "flax.linen":
        return lambda: given.source.apply(params, **given.kwargs)
    if kind == "flax.nnx":
        return lambda: nnx.view(nnx.clone(given.source), **EVAL)(**given.kwargs)
    return lambda: given.source(params, **given.kwargs)


def test_train_mode_draws_and_updates() -> None:
    given = tiny("linen_net")
    source = open_source(given.source, (), given.kwargs, **given.given)
    assert set(source.buffers) == {"norm.mean", "norm.var"}
    _, kept = jax.jit(lambda: source.apply({}, {}, {}, train=False))()
    _, new = jax.jit(lambda: source.apply({}, {}, {}, train=True, rng=1))()
    for name, old in source.buffers.items():
        np.testing.assert_array_equal(kept[name], old)
        assert (new[name] != old).any()


def test_an_nnx_module_is_left_as_it_was() -> None:
    given = tiny("nnx_transformer")
    definition, state = nnx.split(given.source)
    before = str(definition), jax.tree.map(np.asarray, nnx.to_pure_dict(state["head"]))
    source = open_source(given.source, (), given.kwargs)
    jax.eval_shape(lambda: source.call({}, {}, train=True, rng=0))
    captured(given.source, kwargs=given.kwargs)
    definition, state = nnx.split(given.source)
    assert str(definition) == before[0]
    jax.tree.map(
        np.testing.assert_array_equal, nnx.to_pure_dict(state["head"]), before[1]
    )


def test_names_of_arrays() -> None:
    names = {
        "hk_mlp": "mlp/~/linear_0:w",
        "linen_transformer": "LinenBlock_0.Dense_0.kernel",
        "nnx_transformer": "blocks.0.attention.query.kernel",
        "plain_function": "layers.0.w",
    }
    for source, path in names.items():
        given = tiny(source)
        opened = open_source(given.source, (), given.kwargs, **given.given)
        assert path in opened.parameters
    module = nnx.Linear(8, 3, rngs=nnx.Rngs(0))
    assert list(open_source(module, (X,)).parameters) == ["bias", "kernel"]


def test_linen_names_that_clash_get_their_collection() -> None:
    class Twice(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            held = self.variable("stats", "scale", jnp.ones, (8,))
            return x * self.param("scale", nn.initializers.ones, (8,)) + held.value

    source = open_source(Twice(), (X,), params=Twice().init(KEY, X))
    assert list(source.parameters) == ["scale"]
    assert list(source.buffers) == ["stats/scale"]


def test_a_field_says_whether_a_linen_module_trains() -> None:
    module = nn.Sequential([nn.Dense(3), nn.Dropout(0.5, deterministic=False)])
    given = {"params": module.init({"params": KEY, "dropout": KEY}, X)}
    assert not open_source(module, (X,), **given).has_train
    dropout = open_source(nn.Dropout(0.5, deterministic=False), (X,), params={})
    assert dropout.has_train
    np.testing.assert_array_equal(dropout.call({}, {}), X)
    assert (dropout.call({}, {}, train=True, rng=0) != X).any()


@pytest.mark.parametrize("rng", [3, jax.random.key(3), jax.random.PRNGKey(3)])
def test_every_form_of_a_key(rng: Any) -> None:
    assert (jax.random.key_data(as_key(rng)) == jax.random.PRNGKey(3)).all()


def test_no_key() -> None:
    assert as_key(None) is None
    with pytest.raises(InputError, match=r"give jax\.random\.key"):
        as_key(np.ones(3))


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("tiny_net", "TinyNet"), ("<lambda>", "Model"), ("forward_fn", "Model")],
)
def test_class_names_of_functions(name: str, wanted: str) -> None:
    assert camel_case(name) == wanted


# ---- structure


def test_nested_arguments_are_named_and_filled() -> None:
    value = {"a": (X, 3), "p": Pair(X, None), "r": Result(X)}
    named = dict(named_arrays("x", value))
    assert list(named) == ["x_a_0", "x_p_left", "x_r_logits"]
    new = refill(value, is_array, lambda _: 7)
    assert new == {"a": (7, 3), "p": Pair(7, None), "r": Result(7)}


def test_arrays_of_one_name_get_names_of_their_own() -> None:
    source = open_source(lambda x, **k: x, (), {"x": (X,), "x_0": X + 1})
    assert list(source.inputs) == ["x_0", "x_0_2"]
    bound = source.bind(source.inputs, False, None)
    assert np.array_equal(bound.args[0][0], X)
    assert np.array_equal(bound.kwargs["x_0"], X + 1)


def test_outputs_keep_their_structure() -> None:
    def function(x: jax.Array) -> Any:
        return {"p": Pair(x, [x, None]), "r": Result(x), "n": 3, "s": x.shape[0]}

    found = captured(function, X)
    assert found.output["n"] == 3
    assert found.output["p"] == Record(
        f"{__name__}.Pair", (("left", Leaf(0)), ("right", [Leaf(1), None]))
    )
    assert found.output["r"].fields == (("logits", Leaf(2)), ("note", "n"))
    assert str(found.output["s"]) == "batch"
    assert found.count == 3


def test_state_that_does_not_change_is_no_update() -> None:
    given = tiny("hk_resnet")
    source = open_source(given.source, (), given.kwargs, **given.given)
    plan = plan_dims(source.inputs, None)
    assert not capture(source, plan, train=False).updated
    updated = capture(source, plan, train=True).updated
    assert sorted(updated) == sorted(source.buffers)


# ---- dims


def test_first_axes_of_one_size_are_one_batch() -> None:
    arrays = {"a": X, "b": X, "mask": X[:1], "scale": X[0, 0], "other": X.T}
    plan = plan_dims(arrays, None)
    assert plan.axes == {
        ("a", 0): "batch",
        ("b", 0): "batch",
        ("other", 0): "other_batch",
    }
    shapes = symbolic(arrays, plan)
    assert str(shapes["a"].shape[0]) == "batch"
    assert shapes["mask"].shape == (1, 8)
    assert plan_dims({"a": X[:1]}, None).axes == {("a", 0): "batch"}


def test_dims_are_chosen_by_axis() -> None:
    plan = plan_dims({"a": X}, {"a": {0: None, -1: "width"}})
    assert plan.axes == {("a", 1): "width"}
    assert plan.asked
    assert plan_dims({"a": X}, {"a": {0: None}}) == Plan({})


@pytest.mark.parametrize(
    ("dims", "message"),
    [
        ({"z": {0: "b"}}, "'z', which is no array"),
        ({"a": {2: "b"}}, "axis 2 of 'a'"),
        ({"a": {0: "b", 1: "b"}}, "several sizes"),
        ({"a": {0: "2*b"}}, "letters"),
    ],
)
def test_dims_that_do_not_fit(dims: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        plan_dims({"a": X}, dims)


# ---- bad input


def test_every_difference_of_parameters_is_listed() -> None:
    def function(x: jax.Array) -> jax.Array:
        return hk.BatchNorm(True, True, 0.9)(hk.nets.MLP([16, 4])(x), is_training=True)

    pair = hk.transform_with_state(function)
    params, _ = hk.transform_with_state(lambda x: hk.nets.MLP([16, 4])(x)).init(KEY, X)
    params["mlp/~/linear_1"]["w"] = X
    params["other"] = {"w": X}
    del params["mlp/~/linear_0"]["b"]
    with pytest.raises(InputError) as error:
        captured(pair, X, params=params)
    text = str(error.value)
    assert "missing in params= (3)" in text
    assert "mlp/~/linear_0:b [16]" in text
    assert "unexpected in params= (1):\n    other:w [2, 8]" in text
    assert "mlp/~/linear_1:w: given [2, 8], the function has [16, 4]" in text
    assert "missing in state= (6)" in text


def test_a_function_that_cannot_initialise_itself() -> None:
    norm = hk.transform_with_state(lambda x, t: hk.BatchNorm(True, True, 0.9)(x, t))
    params, state = norm.init(KEY, X, True)
    eval_only = hk.transform_with_state(
        lambda x: hk.BatchNorm(True, True, 0.9)(x, is_training=False)
    )
    captured(eval_only, X, params=params, state=state)
    with pytest.raises(TraceError, match="scale"):
        captured(eval_only, X, params={}, state=state)


def test_linen_parameters_are_compared_too() -> None:
    with pytest.raises(InputError) as error:
        captured(nn.Dense(3), X, params={"params": {"kernel": X, "z": X}})
    text = str(error.value)
    assert "bias [3]" in text
    assert "z [2, 8]" in text
    assert "kernel: given [2, 8]" in text


def haiku_dropout(x: jax.Array) -> jax.Array:
    return hk.dropout(hk.next_rng_key(), 0.5, x)


class LinenDropout(nn.Module):
    """Draws in every mode."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return nn.Dropout(0.5, deterministic=False)(x)


@pytest.mark.parametrize("source", [hk.transform(haiku_dropout), LinenDropout()])
def test_a_source_that_needs_a_key_and_gets_none(source: Any) -> None:
    with pytest.raises(InputError, match=r"got no key(.|\n)*rng=jax.random.key\(0\)"):
        captured(source, X, params={})
    captured(source, X, params={}, rng=0)


DROPOUTS = [
    (hk.transform(haiku_dropout), {"params": {}}),
    (LinenDropout(), {"params": {}}),
    (nnx.Dropout(0.5, rngs=nnx.Rngs(0)), {}),
    (lambda x, key: jax.random.bernoulli(key, 0.5, x.shape) * x, {}),
]


@pytest.mark.parametrize(("source", "params"), DROPOUTS)
def test_rng_decides_what_is_drawn(source: Any, params: Any) -> None:
    kwargs = {"key": KEY} if inspect.isfunction(source) else {}
    opened = open_source(source, (X,), kwargs, **params)
    call = jax.jit(lambda key: opened.call({}, {}, train=True, rng=key))
    one, same, other = (np.asarray(call(jax.random.key(seed))) for seed in (1, 1, 2))
    assert (one == same).all()
    assert (one != other).any()
    closed = captured(source, X, kwargs=kwargs, rng=0, **params).closed
    assert not closed.consts  # a mask drawn from a known key would be one


class Guarded(hk.Module):
    """Looks at its batch."""

    def __call__(self, x: jax.Array) -> jax.Array:
        if x.shape[0] > 1:
            return x * 2
        return x


def test_a_guard_on_a_symbolic_dimension() -> None:
    """The example's answer is a check of the port, with its line; the axis stays free."""
    pair = hk.transform(lambda x: Guarded()(x))
    found, plan = planned(pair, X, params={})
    (check,) = plan.checks
    assert str(check) == "batch > 1"
    assert check.line is not None
    assert check.line.file == __file__
    assert check.line.code == "if x.shape[0] > 1:"
    assert plan.constraints == ("batch >= 2",)
    assert plan.axes == {("x", 0): "batch"}
    assert (plan.notes, plan.fixed) == ((), {})
    assert str(found.closed.out_avals[0]) == "float32[batch,8]"
    assert "mul" in str(found.closed.jaxpr)  # the branch of the example
    _, plan = planned(pair, X, params={}, dims={"x": {0: None}})
    assert (plan.axes, plan.checks) == ({}, ())


def test_a_guard_that_leaves_one_size_fixes_the_axis() -> None:
    pair = hk.transform(lambda x: Guarded()(x))
    found, plan = planned(pair, X[:1], params={})
    assert (plan.axes, plan.checks) == ({}, ())
    (line,) = plan.fixed.values()
    assert list(plan.fixed) == [("x", 0)]
    assert line is not None
    assert line.code == "if x.shape[0] > 1:"
    (note,) = plan.notes
    assert note.startswith("Fixed to the example's size: 'batch': ")
    assert "'batch' > '1'" in note
    assert "test_trace.py" in note
    assert note.endswith(": if x.shape[0] > 1:")
    assert found.closed.out_avals[0].shape == (1, 8)
    assert "mul" not in str(found.closed.jaxpr)


def test_numbers_of_a_symbolic_dimension() -> None:
    """The axis is fixed with a note, also one that was asked for by name."""

    def rooted(x: jax.Array) -> jax.Array:
        return x * np.sqrt(x.shape[0])

    found, plan = planned(rooted, X)
    assert (plan.axes, plan.checks) == ({}, ())
    assert list(plan.fixed) == [("x", 0)]
    line = plan.fixed["x", 0]
    assert line is not None
    assert line.file == __file__
    assert line.code == "return x * np.sqrt(x.shape[0])"
    (note,) = plan.notes
    assert note.startswith("Fixed to the example's size: 'batch': ")
    assert note.endswith(f"{line}")
    assert "np.sqrt(x.shape[0])" in note
    assert found.closed.out_avals[0].shape == X.shape
    _, plan = planned(rooted, X, dims={"x": {0: "rows"}})
    assert "'rows'" in plan.notes[0]
    assert "np.sqrt(x.shape[0])" in plan.notes[0]


def test_a_batch_that_nobody_asked_for_is_given_up() -> None:
    def product(x: jax.Array, y: jax.Array) -> jax.Array:
        return x @ y

    opened = open_source(product, (X, X.T))
    found, plan = capture_free(opened, plan_dims(opened.inputs, None))
    assert str(found.closed.out_avals[0].shape) == "(batch, 2)"
    assert plan.axes == {("x", 0): "batch"}
    assert "'y_batch'" in plan.notes[0]
    found, plan = planned(product, X, X.T, dims={"x": {1: "k"}, "y": {0: "k"}})
    assert len(plan.axes) == 3


def test_control_flow_on_data() -> None:
    with pytest.raises(TraceError, match=r"depends on the values(.|\n)*x.sum\(\) > 0"):
        captured(lambda x: x if x.sum() > 0 else -x, X)


def test_a_failure_names_the_module_and_the_line() -> None:
    with pytest.raises(TraceError, match=r"(.|\n)*x @ X\[:3\](.|\n)*x=float32\[2, 8\]"):
        captured(lambda x: x @ X[:3], X)


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "message"),
    [
        (lambda x, y: x, (X,), {"z": 1}, "missing a required argument: 'y'"),
        (lambda x: x, (1,), {}, "no array among the example inputs"),
    ],
)
def test_inputs_that_do_not_fit(
    function: Any, args: Any, kwargs: Any, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        open_source(function, args, kwargs)


def test_outputs_that_no_port_returns() -> None:
    with pytest.raises(TraceError, match=r"returns builtins\.object"):
        captured(lambda x: (x, object()), X)
    with pytest.raises(TraceError, match="no array"):
        captured(lambda x: 3, X)


def test_what_is_no_source() -> None:
    with pytest.raises(SourceError, match="no source of this frontend"):
        open_source(nn.Dense, (X,))
    with pytest.raises(InputError, match="holds its own arrays"):
        open_source(nnx.Linear(8, 3, rngs=nnx.Rngs(0)), (X,), params={})
    with pytest.raises(SourceError, match=r"not made by hk\.transform"):
        open_source(hk.Transformed(lambda: None, lambda: None), (X,), params={})
    with pytest.raises(InputError, match="has no state="):
        open_source(lambda x: x, (X,), state={})
