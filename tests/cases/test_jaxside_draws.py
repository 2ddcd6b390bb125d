"""What a JAX source draws in eval mode, the port draws by its own generator."""

from __future__ import annotations

from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import linen, nnx

import ivyport
from ivyport.api import _known
from ivyport.core.errors import UnsupportedOpsError

X = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
KEY = jax.random.key(3)


class Autoencoder(nnx.Module):
    """A key given with the call, a stream of its own, and dropout."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.mean = nnx.Linear(3, 2, rngs=rngs)
        self.logvar = nnx.Linear(3, 2, rngs=rngs)
        self.decode = nnx.Linear(2, 3, rngs=rngs)
        self.drop = nnx.Dropout(0.3, rngs=rngs)
        self.rngs = rngs

    def __call__(self, x, key):
        mean, logvar = self.mean(x), self.logvar(x)
        z = mean + jnp.exp(logvar / 2) * jax.random.normal(key, mean.shape)
        out = self.decode(self.drop(z))
        jitter = jax.random.uniform(self.rngs.noise(), out.shape)
        return {"out": out, "jittered": out + jitter, "mean": mean}


class Dense(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.Dense(3)(x) + jax.random.normal(self.make_rng("noise"), x.shape)


def dense(x: Any, key: Any) -> Any:
    return hk.Linear(3)(x) + jax.random.normal(hk.next_rng_key(), x.shape) * (
        1 + jax.random.bernoulli(key, 0.3, x.shape)
    )


def of_linen() -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    variables = Dense().init({"params": KEY, "noise": KEY}, X)
    return Dense(), (X,), {"params": variables, "rng": 0}


def of_haiku() -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    source = hk.transform(dense)
    params = source.init(KEY, X, KEY)
    return source, (X, jax.random.PRNGKey(1)), {"params": params, "rng": 0}


@pytest.mark.parametrize("to", ["torch", "jax"])
def test_the_port_draws_by_itself_and_all_else_is_compared(to: str) -> None:
    source = Autoencoder(nnx.Rngs(0))
    port = ivyport.transpile(source, to, (X, KEY))  # compares the outputs
    if to == "torch":
        report = ivyport.verify(source, port, args=(X, KEY))
        assert report.passed
        assert not report.not_checked
        assert any("every random draw fixed" in row.note for row in report.rows)
    assert any("Argument 'key' is a random key" in n for n in _known(port).notes)
    x = torch.from_numpy(X) if to == "torch" else X
    first, second = (np.asarray(port(x)["jittered"].tolist()) for _ in range(2))
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("make", [of_linen, of_haiku])
def test_streams_of_linen_and_haiku_in_eval_mode(make: Any) -> None:
    source, args, given = make()
    port = ivyport.transpile(source, "torch", args, **given)  # compares the outputs
    first, second = (port(torch.from_numpy(X)) for _ in range(2))
    assert not torch.equal(first, second)


def test_a_port_that_draws_something_else_is_found() -> None:
    def source(x: Any, key: Any) -> Any:
        return x + jax.random.normal(key, x.shape)

    port = ivyport.transpile(source, "torch", (X, KEY))

    def other(x: Any, key: Any) -> Any:
        return x + 2 * jax.random.normal(key, x.shape)

    assert not ivyport.verify(other, port, args=(X, KEY)).passed


# ---- draws that JAX makes of random bits: the port's own, of the same distribution

N = 4000
PEAKS = np.float32([0.1, 0.2, 0.7])


def drawing(key: Any, x: Any) -> dict[str, Any]:
    """Draws of many distributions; `x` is (N, 3)."""
    keys = jax.random.split(key, 9)
    return {
        "integers": jax.random.randint(keys[0], x.shape, -2, 5),
        "bounded": jax.random.randint(keys[1], (N,), 1, jnp.arange(N) % 4),
        "gumbel": jax.random.gumbel(keys[2], x.shape),
        "categorical": jax.random.categorical(keys[3], jnp.log(PEAKS) + x),
        "choice": jax.random.choice(keys[4], 3, (N,), p=PEAKS),
        "one of": jax.random.choice(keys[5], jnp.array([4.0, 8.0]), (N,)),
        "permutation": jax.random.permutation(keys[6], 50),
        "shuffled": jax.random.permutation(keys[7], x[:50], axis=0),
        "independent": jax.random.permutation(
            keys[8], x[:50], axis=1, independent=True
        ),
    }


@pytest.mark.parametrize("to", ["torch", "jax"])
def test_draws_have_the_distribution_of_the_source(to: str) -> None:
    x = np.tile(np.float32([0.0, 0.0, 0.0]), (N, 1))
    x[:50] = np.arange(150).reshape(50, 3) * 0.001
    dims = {"x": {0: None}}
    port = ivyport.transpile(
        drawing, to, (KEY, x), dims=dims
    )  # compares with fixed draws
    outs = port(torch.from_numpy(x) if to == "torch" else x)
    found = {name: np.asarray(out.tolist(), np.float64) for name, out in outs.items()}
    expected = drawing(KEY, x)
    for name, right in expected.items():
        assert found[name].shape == right.shape, name
        assert str(outs[name].dtype).rpartition(".")[2].startswith(right.dtype.name[:3])
    shares = np.bincount(found["integers"].astype(int).ravel() + 2, minlength=7)
    assert len(shares) == 7
    np.testing.assert_allclose(shares / (3 * N), 1 / 7, atol=0.02)
    assert set(found["bounded"]) == {1.0, 2.0}  # an empty range gives its lower bound
    assert abs(found["gumbel"].mean() - 0.5772) < 0.05
    assert abs(found["gumbel"].std() - 1.2825) < 0.05
    assert np.isfinite(found["gumbel"]).all()
    for name in ("categorical", "choice"):
        part = np.bincount(found[name].astype(int), minlength=3) / N
        np.testing.assert_allclose(part, PEAKS, atol=0.03)
    assert set(found["one of"]) == {4.0, 8.0}
    assert abs((found["one of"] == 4).mean() - 0.5) < 0.05
    assert sorted(found["permutation"]) == list(range(50))
    assert list(found["permutation"]) != list(range(50))
    rows = found["shuffled"]
    np.testing.assert_allclose(rows[rows[:, 0].argsort()], x[:50], atol=1e-6)
    np.testing.assert_allclose(np.sort(found["independent"], 1), x[:50], atol=1e-6)


def test_other_draws_are_refused_in_words() -> None:
    with pytest.raises(UnsupportedOpsError, match=r"gamma, beta.*draw outside"):
        ivyport.transpile(
            lambda k, x: x + jax.random.beta(k, 1.0, 2.0), "torch", (KEY, X)
        )


def test_draws_that_cannot_be_fixed_are_said_to_be_not_compared() -> None:
    port = ivyport.transpile(
        lambda k, x: x + jax.random.poisson(k, 2.0, x.shape), "torch", (KEY, X)
    )
    assert any("is not compared: it draws" in note for note in _known(port).notes)


def test_signs_and_powers_of_two() -> None:
    x = np.float32([1.5, -0.0, -4.0, np.inf, -np.inf, 3e38, -2.0])

    def source(x: Any) -> tuple[Any, ...]:
        signs = jnp.signbit(x), jnp.copysign(x, x[::-1]), jnp.copysign(x, -0.0)
        scaled = jnp.ldexp(x, jnp.array([3, 1, -1, 2, -2000, -200, 126]))
        return *signs, scaled, 1 / jnp.abs(x) < 0  # the size of -0.0 is 0.0

    port = ivyport.transpile(source, "torch", (x,))
    for found, right in zip(port(torch.from_numpy(x)), source(x), strict=True):
        np.testing.assert_array_equal(found.numpy(), np.asarray(right))
        if right.dtype == np.float32:
            np.testing.assert_array_equal(np.signbit(found.numpy()), np.signbit(right))


class Constant(nnx.Module):
    """Dropout beside draws of a key that is a number of the source."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.linear = nnx.Linear(3, 3, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        mixed = self.drop(self.linear(x @ jax.random.normal(jax.random.key(3), (3, 3))))
        return mixed + jax.random.uniform(jax.random.fold_in(KEY, 7), x.shape)


@pytest.mark.parametrize("to", ["torch", "linen"])
def test_constants_of_a_key_stay_where_draws_are_fixed(to: str) -> None:
    source = Constant(nnx.Rngs(0))
    report = ivyport.verify(source, ivyport.transpile(source, to, (X,), verify=False))
    assert report.passed, report
    assert any(row.note == "in train mode" for row in report.rows), report.rows


def bounded(w: Any, x: Any) -> Any:
    """Own keys, with bounds that a call computes."""
    low, high = x.min(), x.max()
    drawn = jax.random.uniform(KEY, (3,), minval=low, maxval=high)
    cut = jax.random.truncated_normal(KEY, low, high, (3,))
    kept = jax.random.bernoulli(KEY, jax.nn.sigmoid(x), x.shape)
    return w * drawn, w * cut, x * kept


def test_an_own_key_draws_its_numbers_between_bounds_that_are_computed() -> None:
    w = jnp.arange(1.0, 4.0)
    port = ivyport.transpile(bounded, "torch", (X,), params=w, dims={"x": {}})
    for x in (X, 2 * X[::-1].copy()):
        for due, found in zip(bounded(w, x), port(torch.tensor(x)), strict=True):
            np.testing.assert_allclose(found.detach(), due, rtol=1e-5, atol=1e-6)


def of_data(w: Any, x: Any) -> Any:
    key = jax.random.key((x[0, 0] * 100).astype(int))
    return w * jax.random.normal(key, x.shape)


def of_a_loop(w: Any, x: Any) -> Any:
    def body(i, x):
        return x + w * jax.random.uniform(jax.random.fold_in(KEY, i), (3,))

    return jax.lax.fori_loop(0, 3, body, x[0])


def of_a_scan(w: Any, x: Any) -> Any:
    def body(carry, _):
        key, own = jax.random.split(carry[0])
        return (key, carry[1] + w * jax.random.normal(own, (3,))), carry[1]

    return jax.lax.scan(body, (KEY, x[0]), None, length=3)[1]


class Counter(nnx.Module):
    def __init__(self) -> None:
        self.calls = nnx.Variable(jnp.asarray(0))

    def __call__(self, x):
        self.calls[...] += 1
        return x + jax.random.normal(jax.random.fold_in(KEY, self.calls[...]), x.shape)


@pytest.mark.parametrize("source", [of_data, of_a_loop, of_a_scan, Counter()])
def test_a_key_made_of_what_a_call_computes_is_refused_at_the_line(source: Any) -> None:
    given = {} if isinstance(source, nnx.Module) else {"params": jnp.ones(3)}
    with pytest.raises(
        UnsupportedOpsError, match="a key that the source makes of data"
    ) as e:
        ivyport.transpile(source, "torch", (X,), **given)
    assert "test_jaxside_draws.py:" in str(e.value)
    assert "pass it as an argument" in str(e.value)
