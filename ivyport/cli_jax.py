"""The commands for JAX models: `ivyport haiku` and `ivyport flax`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from ivyport.cli_port import (
    Asked,
    Batch,
    DimsGiven,
    Factory,
    Inputs,
    Json,
    Keep,
    Out,
    Overwrite,
    Push,
    Settings,
    Static,
    To,
    Verbose,
    Verify,
    port,
)
from ivyport.cli_render import Screen
from ivyport.zoo.jax_origin import HaikuFactoryOrigin, HaikuOrigin

#: What `--weights` stands for without a file.
PUBLISHED = "published"


class WeightsCommand(TyperCommand):
    """A command whose `--weights` works with a file behind it and without one."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, _with_value(args, "--weights", PUBLISHED))


def _with_value(args: list[str], option: str, value: str) -> list[str]:
    """`args` with a value behind the option where only another option or nothing follows.

    >>> _with_value(["perceiver", "--weights", "--to", "torch"], "--weights", "published")
    ['perceiver', '--weights', 'published', '--to', 'torch']
    """
    result: list[str] = []
    for word, following in zip(args, [*args[1:], None], strict=True):
        result.append(word)
        if word == option and (following is None or following.startswith("-")):
            result.append(value)
    return result


def haiku(
    name: Annotated[
        str,
        typer.Argument(help="An entry of `ivyport zoo list`, or pkg.module:function."),
    ],
    to: To,
    variant: Annotated[
        str | None, typer.Option(help="One of the entry's variants.")
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="[FILE]",
            help="Pretrained weights from a .pystate, .pickle, .npz or .safetensors file; "
            "without FILE the published ones are downloaded.",
        ),
    ] = None,
    no_weights: Annotated[
        bool, typer.Option("--no-weights", help="Random weights.")
    ] = False,
    size: Annotated[
        list[str] | None,
        typer.Option(help="name=value, to replace a published size. Repeatable."),
    ] = None,
    input_: Inputs = None,
    out: Out = None,
    batch: Batch = 2,
    dims: DimsGiven = None,
    static: Static = False,
    set_: Settings = None,
    push: Push = None,
    verify: Verify = True,
    keep: Keep = False,
    overwrite: Overwrite = False,
    verbose: Verbose = False,
    as_json: Json = False,
) -> None:
    """Port a haiku model of the zoo (Perceiver IO, the nets of hk.nets), or a function of yours.

    A function is what hk.transform returns or takes; give its inputs with --input.
    """
    if weights is not None and no_weights:
        raise typer.BadParameter("give --weights or --no-weights, not both")
    file = None if weights in (None, PUBLISHED) else weights
    origin: HaikuOrigin | HaikuFactoryOrigin
    if ":" in name:
        if weights == PUBLISHED or variant is not None or size:
            raise typer.BadParameter(
                "--variant, --size and --weights without a FILE are for entries of the zoo"
            )
        settings = tuple(set_ or ())
        origin = HaikuFactoryOrigin(name, tuple(input_ or ()), file, settings)
    else:
        if input_ or set_:
            raise typer.BadParameter("--input and --set go with pkg.module:function")
        own = False if no_weights else None if weights is None else True
        sizes = tuple(size or ())
        origin = HaikuOrigin(name, variant, own, file, sizes, batch)
    screen = Screen(as_json=as_json, verbose=verbose)
    port(origin, Asked(to, out, dims, static, push, verify, keep, overwrite), screen)


def flax(
    factory: Factory,
    to: To,
    input_: Inputs = None,
    out: Out = None,
    params: Annotated[
        Path | None,
        typer.Option(
            help="Parameters to load: .safetensors, .npz, a msgpack of Flax, a pickle of "
            "arrays, or a folder of orbax; of a training state, the parameters in it."
        ),
    ] = None,
    params_key: Annotated[
        str | None,
        typer.Option(
            help="The tree of the checkpoint that holds the parameters, like ema_params."
        ),
    ] = None,
    dims: DimsGiven = None,
    static: Static = False,
    set_: Settings = None,
    push: Push = None,
    verify: Verify = True,
    keep: Keep = False,
    overwrite: Overwrite = False,
    verbose: Verbose = False,
    as_json: Json = False,
) -> None:
    """Port any Flax module, linen or NNX: the one that a factory of yours returns."""
    from ivyport.zoo.jax_origin import FlaxOrigin

    origin = FlaxOrigin(
        factory,
        inputs=tuple(input_ or ()),
        settings=tuple(set_ or ()),
        params=None if params is None else str(params),
        params_key=params_key,
    )
    screen = Screen(as_json=as_json, verbose=verbose)
    port(origin, Asked(to, out, dims, static, push, verify, keep, overwrite), screen)
