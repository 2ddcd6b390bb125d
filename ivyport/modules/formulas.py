"""What a buffer holds in closed form, so that the constructor of a port can compute it.

A port keeps the buffers of its source in its file, also those that no checkpoint holds: rotary
frequencies, masks, tables. A port that is built from its configuration alone has no file to
read. Where the values are those of a formula, the constructor writes the formula; every other
buffer is made as one that refuses to be read before weights were loaded.
"""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

import numpy as np

from ivyport.backends import pyast
from ivyport.backends.pyast import Exprs
from ivyport.core.ir import Graph, Param
from ivyport.core.starts import Starts
from ivyport.modules import folds

MOST_VALUES = 1 << 22  # larger buffers are not looked at
# Frequencies are computed in float32, by functions that round differently on each side.
ROUNDING = 1e-6
# What torch and Flax let batch and instance norms start with.
STATISTICS = {"running_mean": 0.0, "running_var": 1.0, "mean": 0.0, "var": 1.0}


@dataclasses.dataclass(frozen=True)
class Formula:
    """Values that follow from a shape.

    Attributes:
        kind: ``full``: one number; ``arange``: 0, 1, 2, ... along `axis`, the only one that is
            longer than 1; ``tril`` and ``triu``: one number in a triangle of the last
            two axes, 0 elsewhere; ``frequencies``: ``1 / number ** (arange(0, 2 n, 2) / 2 n)``
            along `axis`; ``sinusoids``: a table of sines and cosines of positions, the longest of
            wavelength ``2 pi number``; ``llama3_frequencies``: frequencies of base `number` that
            Llama 3 stretches by `values` (factor, low, high, original length); ``logs``: the
            logarithms of 1, 2, 3, ... along `axis`, the same along others; ``eye``: ones on the
            diagonal of a matrix.
        number: see `kind`; unused by ``arange``.
        diagonal: where the triangle begins.
        axis: see `kind`.
        flags: arguments of the function that makes ``sinusoids``.
        values: see `kind`; of ``frequencies``: the factor that they are divided by, if any.
    """

    kind: Literal[
        "full",
        "arange",
        "tril",
        "triu",
        "frequencies",
        "sinusoids",
        "llama3_frequencies",
        "logs",
        "eye",
    ]
    number: float = 0
    diagonal: int = 0
    axis: int = 0
    flags: tuple[str, ...] = ()
    values: tuple[float, ...] = ()

    @property
    def helpers(self) -> set[str]:
        """Functions that a file needs to compute it."""
        return {str(self.kind)} & {"sinusoids", "llama3_frequencies"}


# What a parameter holds that nobody draws and no formula gives: it comes with the weights.
UNKNOWN = Formula("full", float("nan"))


class Formulas:
    """The formulas of a graph's buffers; `tensors` has the source's by `Param.source`.

    `config` is the source's configuration: numbers of a formula that the values do not tell.
    """

    def __init__(
        self,
        graph: Graph,
        tensors: Mapping[str, Any],
        config: Mapping[str, Any] | None = None,
        starts: Starts | None = None,
    ) -> None:
        self.graph = graph
        self.tensors = tensors
        self.starts = starts or Starts()
        self.scaled = list(_scaled(config or {}))

    def of(self, param: Param) -> Formula | None:
        """What the source's constructor puts into a buffer, None where that is not known."""
        cls = self.graph.classes.get(param.owner, "").rpartition(".")[2]
        name = param.place.rpartition(".")[2]
        if ("BatchNorm" in cls or "InstanceNorm" in cls) and name in STATISTICS:
            return Formula("full", STATISTICS[name])
        array = self._array(param)
        found = None if array is None else recognised(array, self.scaled)
        if found is None or found.kind != "full":
            return found if param.path not in self.graph.updates else None
        # Other numbers in a checkpoint's buffer may have been learned, and what the model
        # writes is what it started with only where that is zero.
        plain = (0,) if param.path in self.graph.updates else (0, 1)
        known = param.kind == "constant" or found.number in plain
        return found if known else None

    def start(self, param: Param) -> Formula | None:
        """What the source's constructor puts into a parameter, None where it draws it.

        `UNKNOWN` is the answer where it does not draw, but no formula gives the values.
        """
        known = (self.graph.initial or {}).get(param.source)
        if known == "random":
            return None
        if isinstance(known, int | float):
            return Formula("full", known)
        if known in ("fixed", "sided"):
            array = self._folded(param, self.starts.values.get(param.source))
            return (None if array is None else recognised(array)) or UNKNOWN
        if param.trainable and self.graph.initial is not None:
            return None
        array = self._array(param)
        found = None if array is None else recognised(array)
        if found is not None and found.kind == "full":
            # One element says nothing: any number that was learned is as good.
            many = array is not None and array.size > 1 and param.trainable
            found = found if many or found.number in (0, 1) else None
        return found if param.trainable else found or UNKNOWN

    def layer_start(self, param: Param, beside: bool = False) -> Formula | None:
        """The same for a parameter of a library's layer, None where that starts so by itself.

        Biases and weights are drawn as the library draws them, unless the source puts one number
        into a weight, or another one than 0 into a bias, or 1 into a norm's scale; `beside` says
        that it does so for the layer's other parameter.
        """
        known = (self.graph.initial or {}).get(param.source)
        if known in ("fixed", "sided"):
            return self.start(param)
        if not param.trainable:
            found = self.start(param)
            table = found is not None and found.kind not in ("full", "arange")
            return found if table and found is not UNKNOWN else None
        if not isinstance(known, int | float):
            return None
        matrix = len(param.type.shape) > 1
        usual = 0 if param.source.rpartition(".")[2].startswith("bias") else 1
        special = matrix or beside or known != usual
        return Formula("full", known) if special else None

    def following(self, param: Param, formula: Formula) -> Iterator[str]:
        """Fields of the configuration with which the formula does not give the values."""
        for field, tables in self.starts.changed.items():
            if param.source in tables:
                table = tables[param.source]
                found = None if table is None else recognised(table, self.scaled)
                if found is None or _rule(found) != _rule(formula):
                    yield field

    def _array(self, param: Param) -> np.ndarray | None:
        """The source's values as the graph holds them; None for those that are not at hand."""
        sizes = [size for size in param.type.shape if isinstance(size, int)]
        if param.source not in self.tensors or np.prod(sizes) > MOST_VALUES:
            return None
        return self._folded(param, np.asarray(self.tensors[param.source]))

    def _folded(self, param: Param, array: np.ndarray | None) -> np.ndarray | None:
        if array is None:
            return None
        for transform in folds.transforms(param):
            array = transform.apply(array)
        return array


def _rule(formula: Formula) -> Formula:
    """The formula without the axis, which a parameter's folds move."""
    return dataclasses.replace(formula, axis=0)


def _scaled(config: Mapping[str, Any]) -> Iterator[Formula]:
    """Stretched frequencies that a configuration speaks of, at any depth."""
    names = (
        "rope_theta", "factor", "low_freq_factor", "high_freq_factor",
        "original_max_position_embeddings",
    )  # fmt: skip
    for value in config.values():
        if isinstance(value, Mapping):
            yield from _scaled(value)
    kind = config.get("rope_type", config.get("type"))
    numbers = [config.get(name) for name in names]
    if kind == "llama3" and all(isinstance(n, int | float) for n in numbers):
        base, *values = (float(n) for n in numbers if n is not None)
        yield Formula("llama3_frequencies", base, values=tuple(values))


def recognised(array: np.ndarray, scaled: Iterable[Formula] = ()) -> Formula | None:
    """The formula of an array's values, exact but for the rounding of frequencies.

    `scaled` are formulas to try with frequencies that are no powers of one base.

    >>> recognised(np.tri(3, dtype=bool)).kind
    'tril'
    """
    if (
        not array.size
        or array.dtype.kind not in "biuf"
        or (array.dtype.kind == "f" and np.isnan(array).any())
    ):
        return None
    flat = array.reshape(-1)
    if (flat == flat[0]).all():
        return Formula("full", _number(flat[0]))
    axis = int(np.argmax(array.shape))
    if array.size == array.shape[axis]:
        if (flat == np.arange(flat.size)).all() and array.dtype.kind != "b":
            return Formula("arange", axis=axis)
        single = array.dtype == np.float32
        return (_frequencies(flat, axis, scaled) or _logs(array)) if single else None
    return _triangle(array) or _sinusoids(array) or _logs(array) or _eye(array)


def _number(value: Any) -> Any:
    """The shortest Python number that the dtype rounds to this value."""
    if value.dtype.kind != "f" or not np.isfinite(value):
        return value.item()
    return float(np.format_float_scientific(value, unique=True))


def _frequencies(
    flat: np.ndarray, axis: int, scaled: Iterable[Formula]
) -> Formula | None:
    """The base is a whole number, as everywhere; one number is found from the last value."""
    count = flat.size
    steps = np.arange(count) / count
    for formula in scaled:
        values = _stretched(1.0 / formula.number**steps, *formula.values)
        if np.allclose(flat, values, rtol=ROUNDING, atol=0):
            return dataclasses.replace(formula, axis=axis)
    if not (0 < flat[-1] < flat[0] <= 1):
        return None
    factor = float(f"{1 / float(flat[0]):.5g}")
    rate = float(flat[-1]) / float(flat[0])
    base = float(f"{rate ** (-count / (count - 1)):.5g}")
    if base != round(base):
        return None
    values = 1.0 / base**steps / factor
    close = np.allclose(flat, values, rtol=ROUNDING, atol=0)
    divided = () if factor == 1 else (factor,)
    return Formula("frequencies", base, axis=axis, values=divided) if close else None


def _stretched(
    rates: np.ndarray, factor: float, low: float, high: float, length: float
) -> np.ndarray:
    """Long waves are stretched by `factor`, short ones kept, those between in part."""
    kept = np.clip((length * rates / (2 * np.pi) - low) / (high - low), 0, 1)
    return kept * rates + (1 - kept) * rates / factor


def _triangle(array: np.ndarray) -> Formula | None:
    if array.ndim < 2 or array.size != array.shape[-1] * array.shape[-2]:
        return None
    square = array.reshape(array.shape[-2:])
    rows, columns = np.nonzero(square)
    value = square[rows[0], columns[0]]
    offsets = columns - rows
    for kind, triangle, diagonal in (
        ("tril", np.tril, int(offsets.max())),
        ("triu", np.triu, int(offsets.min())),
    ):
        mask = triangle(np.ones(square.shape, bool), diagonal)
        if (square[mask] == value).all() and not square[~mask].any():
            return Formula(kind, _number(value), diagonal)  # type: ignore[arg-type]  # mypy takes `kind` for any str
    return None


def _logs(array: np.ndarray) -> Formula | None:
    """Logarithms of whole numbers, as state space models decay by."""
    if array.dtype != np.float32:
        return None
    for axis in range(array.ndim):
        first = np.moveaxis(array, axis, 0)
        line = first.reshape(len(first), -1)
        logs = np.log(np.arange(1, len(first) + 1))
        if len(logs) > 2 and np.allclose(line, logs[:, None], rtol=ROUNDING, atol=0):
            return Formula("logs", axis=axis)
    return None


def _eye(array: np.ndarray) -> Formula | None:
    if array.ndim != 2 or min(array.shape) < 2:
        return None
    return Formula("eye") if (array == np.eye(*array.shape)).all() else None


def _sinusoids(array: np.ndarray) -> Formula | None:
    """A table whose row is the position and whose columns are sines and cosines."""
    sizes = [size for size in array.shape if size > 1]
    if len(sizes) != 2 or array.dtype != np.float32:
        return None
    table = array.reshape(sizes)
    length, width = sizes
    if width % 2 or width < 4:
        return None
    halves = not table[0, : width // 2].any()
    sines, cosines = (
        (table[:, : width // 2], table[:, width // 2 :])
        if halves
        else (table[:, ::2], table[:, 1::2])
    )
    if sines[0].any() or (cosines[0] != 1).any():
        return None
    steps = np.arange(width // 2)
    angle = float(np.arctan2(sines[1, -1], cosines[1, -1]))
    # The angles are rounded to float32 before the sine is taken.
    rounding = length * 2.0**-21
    found = []
    for last in (False, True):
        count = width // 2 - last
        base = float(f"{angle ** (-count / (width // 2 - 1)):.5g}") if angle > 0 else 0
        if base < 2 or base != round(base):
            continue
        angles = np.arange(length)[:, None] * base ** (-steps / count)
        error = max(
            np.abs(np.sin(angles) - sines).max(), np.abs(np.cos(angles) - cosines).max()
        )
        if error <= rounding:
            named = {"halves": halves, "last": last}
            flags = tuple(n for n in named if named[n])
            found.append(Formula("sinusoids", base, flags=flags))
    # Both can be right for one width; people choose round numbers.
    return min(found, key=lambda f: len(str(int(f.number)).rstrip("0")), default=None)


def spelled(
    exprs: Exprs, formula: Formula, shape: ast.expr, dtype: ast.expr
) -> ast.expr:
    """The formula as code; ``jnp``, ``torch`` and ``np`` have these functions in common."""
    made = _spelled(exprs, formula, shape, dtype)
    wide = exprs.language.double and formula.kind == "frequencies"
    return exprs.method(made, "astype", dtype) if wide else made


def _spelled(
    exprs: Exprs, formula: Formula, shape: ast.expr, dtype: ast.expr
) -> ast.expr:
    module = exprs.dtype_prefix
    if formula.kind in ("arange", "frequencies", "llama3_frequencies"):
        assert isinstance(shape, ast.Tuple)
        size = shape.elts[formula.axis]
        if formula.kind == "arange":
            made = exprs.call(f"{module}.arange", size, dtype=dtype)
        elif formula.kind == "llama3_frequencies":
            function = pyast.name(formula.kind)
            width = _double(exprs, size)
            made = exprs.call(function, width, formula.number, *formula.values)
        else:
            double = _double(exprs, size)
            steps = exprs.call(f"{module}.arange", 0, double, 2)
            power = exprs.binary("/", steps, double)
            made = exprs.binary("/", 1.0, exprs.binary("**", formula.number, power))
            for factor in formula.values:
                made = exprs.binary("/", made, factor)
        alone = len(shape.elts) == 1
        return made if alone else exprs.method(made, "reshape", shape)
    if formula.kind == "sinusoids":
        return _table(exprs, formula, shape)
    if formula.kind == "eye":
        assert isinstance(shape, ast.Tuple)
        return exprs.call(f"{module}.eye", *shape.elts, dtype=dtype)
    if formula.kind == "logs":
        return _log_lines(exprs, formula.axis, shape, dtype)
    filled = _filled(exprs, formula.number, shape, dtype)
    if formula.kind == "full":
        return filled
    diagonal = formula.diagonal or pyast.OMIT
    return exprs.call(f"{module}.{formula.kind}", filled, diagonal)


def _log_lines(exprs: Exprs, axis: int, shape: ast.expr, dtype: ast.expr) -> ast.expr:
    """``jnp.log(jnp.arange(1, 17, dtype=jnp.float32))``, for all lines of a table."""
    assert isinstance(shape, ast.Tuple)
    module, size = exprs.dtype_prefix, shape.elts[axis]
    stop = (
        ast.Constant(size.value + 1)
        if isinstance(size, ast.Constant) and isinstance(size.value, int)
        else exprs.binary("+", size, 1)
    )
    made = exprs.call(
        f"{module}.log", exprs.call(f"{module}.arange", 1, stop, dtype=dtype)
    )
    after = len(shape.elts) - axis - 1
    if after:
        made = exprs.method(made, "reshape", -1, *[1] * after)
    if len(shape.elts) == 1:
        return made
    made = exprs.call(f"{module}.broadcast_to", made, shape)
    # A parameter cannot be a view of one line.
    return exprs.method(made, "contiguous") if exprs.language.strided else made


def _filled(exprs: Exprs, number: Any, shape: ast.expr, dtype: ast.expr) -> ast.expr:
    """``torch.zeros((6,))``, ``torch.ones((6,))`` or ``torch.full((6,), 0.5)``.

    Layers of torch have its default dtype, those of Flax float32 whatever JAX's default is.
    """
    module = exprs.dtype_prefix
    float32 = ast.dump(dtype) == ast.dump(exprs.dtype("float32"))
    usual = exprs.language.default_float and float32
    kind = pyast.OMIT if usual else dtype
    if repr(number) in ("0", "0.0", "1", "1.0"):
        return exprs.call(
            f"{module}.{('zeros', 'ones')[int(number)]}", shape, dtype=kind
        )
    kind = pyast.OMIT if usual and isinstance(number, float) else dtype
    return exprs.call(f"{module}.full", shape, number, dtype=kind)


def _double(exprs: Exprs, size: ast.expr) -> ast.expr:
    if isinstance(size, ast.Constant) and isinstance(size.value, int):
        return ast.Constant(2 * size.value)
    if (
        isinstance(size, ast.BinOp)
        and isinstance(size.op, ast.FloorDiv)
        and ast.dump(size.right) == ast.dump(ast.Constant(2))
    ):
        return size.left
    return exprs.binary("*", 2, size)


def _table(exprs: Exprs, formula: Formula, shape: ast.expr) -> ast.expr:
    """``sinusoids(512, 64)``."""
    assert isinstance(shape, ast.Tuple)
    sizes = [
        s for s in shape.elts if not (isinstance(s, ast.Constant) and s.value == 1)
    ]
    base = pyast.OMIT if formula.number == 10000.0 else formula.number
    flags = dict.fromkeys(formula.flags, True)
    made = exprs.call(pyast.name("sinusoids"), *sizes, base=base, **flags)
    return (
        made if len(sizes) == len(shape.elts) else exprs.method(made, "reshape", shape)
    )


def initial(
    exprs: Exprs, formula: Formula, shape: ast.expr, dtype: ast.expr, plain: bool
) -> ast.expr:
    """What a parameter starts as: ``jnp.ones(4)``; `plain` says that its dtype is float32."""
    if formula.kind != "full":
        return spelled(exprs, formula, shape, dtype)
    given = pyast.OMIT if plain else dtype
    number = formula.number
    if type(number) in (int, float) and number in (0, 1):
        name = ("zeros", "ones")[int(number)]
        return exprs.call(f"{exprs.dtype_prefix}.{name}", shape, dtype=given)
    return exprs.call(f"{exprs.dtype_prefix}.full", shape, number, dtype=given)
