"""The port: a haiku function with its parameters and state, compiled once a forward."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import haiku as hk
import jax

from ivyport.backends.jax.realize_haiku import Ported, flattened, namespace, nested
from ivyport.core.arguments import Described, call
from ivyport.modules.haiku import module_name
from ivyport.verification.compare import Array
from ivyport.verification.jax_calls import Arrays, given
from ivyport.verification.jax_port import JaxPort
from ivyport.verification.linen_side import KEY, Watched
from ivyport.verification.sides import PortFails, Record


class HaikuSide(JaxPort):
    """Runs `apply` on copies of the trees; names are ``params/model/~/up/w``."""

    def __init__(self, ported: Ported, arguments: Described | None = None) -> None:
        self._function = ported[0]
        flat = flattened(*ported[1:])
        trained = [name for name in flat if name.startswith("params/")]
        values = {**flat, KEY: jax.random.key(0)}
        self._prepare(values, trained, {KEY}, namespace(ported), arguments)

    def dtypes(self) -> set[str]:
        """Names of dtypes, such as 'float32'."""
        return {v.dtype.name for n, v in self.values.items() if n != KEY}

    def _called(
        self, values: Arrays, inputs: Arrays, train: bool
    ) -> tuple[Any, Arrays]:
        flat = {name: value for name, value in values.items() if name != KEY}
        key, drawn = jax.random.split(values[KEY])
        args, kwargs = call(self._arguments, inputs)
        result, state = self._function.apply(
            *nested(flat), drawn, *args, is_training=train, **kwargs
        )
        return result, {**values, **flattened({}, state), KEY: key}

    def watch(
        self,
        inputs: Mapping[str, Array],
        modules: Mapping[str, str],
        record: Record,
    ) -> tuple[str, str] | None:
        """Run eagerly and record the arrays that each call of a module returns."""
        watched = Watched(
            {module_name(attr): path for path, attr in modules.items()}, record
        )

        def seen(run: Any, args: Any, kwargs: Any, context: hk.MethodContext) -> Any:
            name = context.module.module_name
            inner = context.method_name == "__init__"
            return run(*args, **kwargs) if inner else watched(name, run, args, kwargs)

        try:
            with (
                self._running(),
                self._dropout(train=False),
                hk.intercept_methods(seen),
            ):
                self._called(self.values, given(inputs, self._wide), False)
        except PortFails as error:
            return watched.failed or "", str(error)
        return None
