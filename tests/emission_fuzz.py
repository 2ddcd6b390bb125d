"""Random models for the emitter: modules, loops, branches, state, and names that collide.

`Model(seed).graph()` is a graph as a frontend would make it. Its values are few in shape, so that
all the difficulty is in what is called what: values have the names of arguments, sizes, layers,
helpers, functions and keywords, several results are pending at once, modules return several
values, are shared, nested and repeated, and inputs and parameters are returned.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from ivyport.core import control
from ivyport.core.dims import symbol
from ivyport.core.ir import (
    Call,
    Graph,
    NewAxis,
    Node,
    Scope,
    Slice,
    TensorType,
    Value,
)
from tests.graph_run import Draft

B = symbol("batch")
ROW = 4
NAMES = [
    "x", "x", "y", "y", "x_2", "x_3", "hidden_states", "self", "config", "B", "N", "batch",
    "layer", "layers", "block", "step", "carry", "if_true", "goes_on", "branch", "outputs",
    "softmax", "linear", "jnp", "jax", "torch", "F", "np", "class", "lambda", "range", "zip",
    "reversed", "bool", "_", "__x", "x_t", "i", "2x", "Net", "size", "\u017f",
]  # fmt: skip


class Model:
    """A random model; everything it draws follows from the seed."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.b = Draft()
        self.root = (Scope("", "pkg.Net"),)
        self.b.scope = self.root
        self.calls: list[Call] = []
        self.counts: dict[str, int] = {}
        self.held: dict[str, Value] = {}
        self.recipes: dict[str, tuple[int, int, int]] = {}  # seed, arguments, results
        self.updates: dict[str, Value] = {}
        self.level = 0  # of loops and branches
        names = self.rng.sample(list(dict.fromkeys(NAMES)), self.rng.randint(2, 4))
        self.live = [self.b.input(name, B, ROW) for name in names]

    # ---- drawing

    def some(self, rng: random.Random, live: Sequence[Value]) -> Value:
        """A value, the latest more often."""
        back = min(int(rng.expovariate(0.5)) + 1, len(live))
        return live[-back]

    def param(self, path: str, *shape: int, kind: str = "parameter") -> Value:
        """The parameter at `path`, made once."""
        if path not in self.held:
            self.held[path] = self.b.param(path, *shape, kind=kind)
        return self.held[path]

    # ---- operations: values of (batch, 4) to such values

    def operation(self, rng: random.Random, live: list[Value]) -> list[Value]:
        b = self.b
        x, y = self.some(rng, live), self.some(rng, live)
        number = rng.choice([0.5, 2.0, 0.25])
        kinds: list[Callable[[], list[Value]]] = [
            lambda: [getattr(b, rng.choice(["tanh", "sin", "cos", "negative"]))(x)],
            lambda: [getattr(b, rng.choice(["add", "subtract", "maximum"]))(x, y)],
            lambda: [b.multiply(b.tanh(x), rng.choice([y, number]))],
            lambda: [b.add(x, number)],
            lambda: [b.subtract(x, b.mean(y, axis=(0,), keepdims=True))],
            lambda: [b.softmax(x, axis=-1)],
            lambda: self.ordered(x),
            lambda: self.ordered(x),
            lambda: self.largest(x),
            lambda: self.pieces(x, y),
            lambda: [b.where(b.greater(x, y), y, b.sin(x))],
            lambda: self.sized(rng, x),
            lambda: [b.matmul(b.tanh(x), b.matmul(b.permute_dims(b.tanh(y), axes=(1, 0)),
                                                  b.tanh(x)))],
        ]  # fmt: skip
        return rng.choice(kinds)()

    def ordered(self, x: Value) -> list[Value]:
        steps = self.b.arange(start=0, stop=ROW, step=1, dtype="float32")
        apart = self.b.add(x, self.b.multiply(steps, 0.137))  # no ties of whole numbers
        values, order = self.b.sort(apart, axis=-1, stable=True)
        return [values, self.b.cast(order, "float32")]

    def largest(self, x: Value) -> list[Value]:
        values, order = self.b.topk(x, k=2)
        wide = self.b.concat(values, values, axis=-1)
        rank = self.b.concat(order, order, axis=-1)
        return [wide, self.b.take_along_axis(x, rank, axis=-1)]

    def pieces(self, x: Value, y: Value) -> list[Value]:
        left, middle, right = self.b.split(x, sizes=(1, 2, 1), axis=-1)
        joined = self.b.concat(right, middle, left, axis=-1)
        return [
            joined,
            self.b.add(y, left),
            self.b.multiply(middle_of(self.b, y), right),
        ]

    def sized(self, rng: random.Random, x: Value) -> list[Value]:
        """Something that reads a size."""
        b = self.b
        if rng.random() < 0.5:
            line = b.arange(start=0, stop=B, step=1, dtype="float32")
            return [b.add(x, b.getitem(line, index=(Slice(), NewAxis())))]
        row = b.mean(x, axis=(0,), keepdims=True)
        return [b.broadcast_to(row, shape=(B, ROW))]

    # ---- modules

    def module(
        self, path: str, recipe: int, given: list[Value], results: int
    ) -> list[Value]:
        """Call the module at `path`, whose class is its recipe: what it does and holds."""
        rng = random.Random(recipe)
        outer = self.b.scope
        number = self.counts.get(path, 0)
        self.counts[path] = number + 1
        self.b.scope = (*outer, Scope(path, self.kind(recipe), number))
        arguments = rng.sample(NAMES, len(given))
        pairs = dict(zip(arguments, given, strict=True))
        self.calls.append(Call(self.b.scope, list(pairs.items())))
        live = list(given)
        stateless = rng.random() < 0.15
        if not stateless:
            scale = self.param(f"{path}.weight", ROW)
            live.append(self.b.multiply(self.some(rng, live), scale))
        for _ in range(rng.randint(1, 4)):
            kind = rng.random()
            if kind < 0.2 and not stateless:
                live.append(self.linear(f"{path}.linear", self.some(rng, live)))
            elif kind < 0.35 and len(self.b.scope) < 4 and not stateless:
                live += self.inner(rng, path, live)
            elif kind < 0.42 and self.level < 2:
                live += self.flow(rng, live)
            else:
                live += self.operation(rng, live)
        made = [self.some(rng, live) for _ in range(results)]
        self.b.scope = outer
        return made

    def kind(self, recipe: int) -> str:
        return "torch.nn.Sequential" if recipe % 11 == 0 else f"pkg.Part{recipe % 5}"

    def inner(self, rng: random.Random, path: str, live: list[Value]) -> list[Value]:
        given = [self.some(rng, live) for _ in range(rng.randint(1, 2))]
        name = rng.choice(["inner", "layer", "x", "softmax"])
        return self.module(
            f"{path}.{name}", rng.randrange(10**6), given, rng.randint(1, 3)
        )

    def linear(self, path: str, x: Value) -> Value:
        outer = self.b.scope
        number = self.counts.get(path, 0)
        self.counts[path] = number + 1
        self.b.scope = (*outer, Scope(path, "torch.nn.Linear", number))
        made = self.b.linear(x, self.param(f"{path}.weight", ROW, ROW), None)
        self.b.scope = outer
        return made

    def called(self) -> list[Value]:
        """A new module, or one that was called before."""
        rng = self.rng
        if self.recipes and rng.random() < 0.4:
            path = rng.choice(list(self.recipes))
        else:
            path = rng.choice(["encoder", "head", "x", "step", "layer"])
            path += str(len(self.recipes))
            self.recipes[path] = (
                rng.randrange(10**6),
                rng.randint(1, 3),
                rng.randint(1, 3),
            )
        recipe, arguments, results = self.recipes[path]
        given = [self.some(rng, self.live) for _ in range(arguments)]
        return self.module(path, recipe, given, results)

    def row(self) -> list[Value]:
        """Equal layers in a row, which a loop calls."""
        rng = self.rng
        count, carried = rng.randint(2, 4), rng.randint(1, 2)
        extra = [self.some(rng, self.live) for _ in range(rng.randint(0, 2))]
        values = [self.some(rng, self.live) for _ in range(carried)]
        results = carried + rng.randint(0, 1)
        path = rng.choice(["layers", "blocks", "x"]) + f"_{len(self.counts)}"
        recipe = rng.randrange(10**6)
        repeated = rng.random() < 0.3
        made: list[Value] = []
        for index in range(count):
            place = f"{path}.0" if repeated else f"{path}.{index}"
            made = self.module(place, recipe, [*values, *extra], results)
            values = made[:carried]
        return made

    # ---- loops and branches

    def region(
        self, inputs: list[Value], build: Callable[[list[Value]], list[Value]]
    ) -> Graph:
        """A body: `build` adds to it and gives its results."""
        outer: list[Node] = self.b.nodes
        self.b.nodes = []
        self.level += 1
        outputs = build(inputs)
        self.level -= 1
        made, self.b.nodes = self.b.nodes, outer
        return Graph(list(inputs), {}, made, outputs)

    def steps(self, rng: random.Random, live: list[Value], results: int) -> list[Value]:
        live = list(live)
        for _ in range(rng.randint(1, 3)):
            if rng.random() < 0.15 and self.level < 2:
                live += self.flow(rng, live)
            else:
                live += self.operation(rng, live)
        return [self.some(rng, live) for _ in range(results)]

    def flow(self, rng: random.Random, live: list[Value]) -> list[Value]:
        return rng.choice([self.choose, self.scan, self.loop])(rng, live)

    def choose(self, rng: random.Random, live: list[Value]) -> list[Value]:
        b = self.b
        total = b.getitem(self.some(rng, live), index=(0, 0))
        count = rng.choice([2, 2, 3])
        if count == 2:
            which = b.cast(b.greater(total, 0.0), "int32")
        else:
            which = b.cast(b.multiply(b.add(b.tanh(total), 0.5), 2.0), "int32")
        results = rng.randint(1, 2)
        branches = [
            self.region([], lambda _: self.steps(rng, live, results))
            for _ in range(count)
        ]
        outside = control.close(branches)
        made = b.node("cond", (which, *outside), {"branches": tuple(branches)})
        return list(made.outputs)

    def scan(self, rng: random.Random, live: list[Value]) -> list[Value]:
        b = self.b
        length, carried = rng.randint(2, 3), rng.randint(1, 2)
        initial = [self.some(rng, live) for _ in range(carried)]
        entries = [
            b.stack(*(self.some(rng, live) for _ in range(length)), axis=0)
            for _ in range(rng.randint(0, 2))
        ]
        stacked = rng.randint(0, 2)
        inputs = [
            Value(TensorType("float32", (B, ROW)))
            for _ in range(carried + len(entries))
        ]
        body = self.region(
            inputs, lambda own: self.steps(rng, [*live, *own], carried + stacked)
        )
        outside = control.close([body])
        attrs = {
            "body": body,
            "num_carry": carried,
            "num_xs": len(entries),
            "length": length,
            "reverse": rng.random() < 0.3,
        }
        made = b.node("scan", (*initial, *entries, *outside), attrs).outputs
        rows = [b.mean(y, axis=(0,), keepdims=False) for y in made[carried:]]
        return [*made[:carried], *rows]

    def loop(self, rng: random.Random, live: list[Value]) -> list[Value]:
        b = self.b
        carried = rng.randint(1, 2)
        initial = [
            b.full(shape=(), value=0, dtype="int32"),
            *(self.some(rng, live) for _ in range(carried)),
        ]
        limit = rng.randint(1, 3)

        def copies() -> list[Value]:
            return [Value(v.type) for v in initial]

        test = self.region(copies(), lambda own: [b.less(own[0], limit)])
        body = self.region(
            copies(),
            lambda own: [
                b.add(own[0], 1),
                *self.steps(rng, [*live, *own[1:]], carried),
            ],
        )
        outside = control.close([test, body])
        attrs = {"test": test, "body": body, "num_carry": len(initial)}
        made = b.node("while_loop", (*initial, *outside), attrs).outputs
        return list(made[1:])

    # ---- the whole

    def state(self) -> list[Value]:
        """A buffer that the call writes, of the model or of a module that it calls once."""
        rng = self.rng
        path = f"{rng.choice(['', 'memory.'])}count{len(self.updates)}"
        buffer = self.param(path, ROW, kind="buffer")
        outer = self.b.scope
        if "." in path:
            number = self.counts.get("memory", 0)
            self.counts["memory"] = number + 1
            self.b.scope = (*outer, Scope("memory", "pkg.Memory", number))
        x = self.some(rng, self.live)
        mean = self.b.mean(x, axis=(0,), keepdims=False)
        self.updates[path] = self.b.add(self.b.multiply(buffer, 0.5), mean)
        made = [self.b.add(x, buffer)]
        self.b.scope = outer
        if rng.random() < 0.5:
            made.append(self.b.subtract(self.some(rng, self.live), buffer))
        return made

    def graph(self) -> Graph:
        rng = self.rng
        for _ in range(rng.randint(3, 8)):
            kind = rng.random()
            if kind < 0.3:
                self.live += self.called()
            elif kind < 0.4:
                self.live += self.row()
            elif kind < 0.5:
                self.live += self.flow(rng, self.live)
            elif kind < 0.55 and not self.updates:
                self.live += self.state()
            elif kind < 0.6:
                self.live.append(self.param("scale", ROW))
                self.live[-1] = self.b.add(
                    self.live[-1], self.some(rng, self.live[:-1])
                )
            else:
                self.live += self.operation(rng, self.live)
        outputs = self.outputs()
        graph = self.b.graph(outputs)
        graph.calls = self.calls
        graph.updates = self.updates
        graph.trained = set(graph.updates) if rng.random() < 0.5 else set()
        self.name(graph)
        return graph

    def outputs(self) -> Any:
        """A structure of values, inputs, parameters and buffers, some of them twice."""
        rng = self.rng
        held = [*self.b.inputs, *self.held.values()]
        flat = [self.some(rng, self.live) for _ in range(rng.randint(1, 4))]
        flat += [rng.choice(held) for _ in range(rng.randint(0, 2))]
        rng.shuffle(flat)
        if rng.random() < 0.3:
            return {f"y{i}": v for i, v in enumerate(flat)}
        return [tuple(flat[:2]), *flat[2:]]

    def name(self, graph: Graph) -> None:
        """Names of the source's variables for most values, out of a small pool."""
        pool = self.rng.sample(NAMES, self.rng.randint(1, 6))
        for node in control.all_nodes(graph):
            for value in node.outputs:
                for depth in range(max(len(node.scope), 1)):
                    if self.rng.random() < 0.7:
                        value.names[depth] = self.rng.choice(pool)


def middle_of(b: Draft, x: Value) -> Value:
    """Columns 1 and 2 of x, twice over."""
    part = b.getitem(x, index=(Slice(), Slice(1, 3)))
    return b.concat(part, part, axis=-1)
