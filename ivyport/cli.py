"""The command line: parse, call the library, render.

Exit codes: 0 where the port agrees with its source, 1 where it does not, 2 where the
request or the source is at fault, 70 for a defect of ivyport or of the user's factory, 130
after Ctrl-C.
"""

from __future__ import annotations

import sys
import traceback
from pathlib import Path
from typing import Annotated, Literal

import typer

import ivyport
from ivyport.cli_bench import bench
from ivyport.cli_jax import WeightsCommand, flax, haiku
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
    check_port,
    code,
    port,
    rebuilt,
    verdict,
)
from ivyport.cli_render import DEFECT, OK, Screen, code_of
from ivyport.core.errors import IvyportError
from ivyport.folder import demand_trust
from ivyport.saving import file_of, open_record
from ivyport.structure import trained

app = typer.Typer(
    help="Port pretrained models between frameworks, as readable source code.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
weights_app = typer.Typer(help="Move weights between formats.", no_args_is_help=True)
zoo_app = typer.Typer(help="Known models.", no_args_is_help=True)
app.command("bench")(bench)
app.command("haiku", cls=WeightsCommand)(haiku)
app.command("flax")(flax)
app.add_typer(weights_app, name="weights")
app.add_typer(zoo_app, name="zoo")

Dtype = Literal["float32", "bfloat16", "float16", "float64"]


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, typer.Option("--version")] = False) -> None:
    """Port pretrained models between frameworks, as readable source code."""
    if version:
        typer.echo(f"ivyport {ivyport.__version__}")
        raise typer.Exit(OK)


@app.command()
def hf(
    model: Annotated[str, typer.Argument(help="Local folder, snapshot or hub id.")],
    to: To,
    out: Out = None,
    cls: Annotated[
        str | None, typer.Option("--class", help="A transformers class.")
    ] = None,
    weights: Annotated[
        bool, typer.Option(help="Pretrained weights, or random ones.")
    ] = True,
    dtype: Annotated[Dtype, typer.Option(help="Dtype to load in.")] = "float32",
    revision: Annotated[str | None, typer.Option(help="Hub revision.")] = None,
    batch: Batch = 2,
    seq_len: Annotated[
        int | None, typer.Option(min=1, help="Example sequence length.")
    ] = None,
    inputs: Annotated[
        Path | None, typer.Option(help="Example inputs, .npz or .safetensors.")
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
    """Port a Hugging Face transformers model."""
    from ivyport.zoo.origin import HFOrigin

    origin = HFOrigin(
        model,
        cls=cls,
        weights=weights,
        dtype=dtype,
        revision=revision,
        batch=batch,
        seq_len=seq_len,
        inputs=None if inputs is None else str(inputs),
        settings=tuple(set_ or ()),
    )
    screen = Screen(as_json=as_json, verbose=verbose)
    port(origin, Asked(to, out, dims, static, push, verify, keep, overwrite), screen)


@app.command("torch")
def torch_(
    factory: Factory,
    to: To,
    input_: Inputs = None,
    out: Out = None,
    params: Annotated[
        Path | None, typer.Option(help="Parameters to load, .safetensors.")
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
    """Port any torch module: the one that a factory of yours returns."""
    from ivyport.zoo.origin import TorchOrigin

    origin = TorchOrigin(
        factory,
        inputs=tuple(input_ or ()),
        settings=tuple(set_ or ()),
        params=None if params is None else str(params),
    )
    screen = Screen(as_json=as_json, verbose=verbose)
    port(origin, Asked(to, out, dims, static, push, verify, keep, overwrite), screen)


@app.command()
def verify(
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="A saved port.")],
    source: Annotated[
        str | None, typer.Option(help="The source model, where it has moved.")
    ] = None,
    trust: Annotated[
        bool, typer.Option("--trust", help="Run the Python code of a folder of others.")
    ] = False,
    verbose: Verbose = False,
    as_json: Json = False,
) -> None:
    """Compare a saved port with its source again.

    Of a port that was trained since, the code is compared, with the source's weights in it.
    """
    screen = Screen(as_json=as_json, verbose=verbose)
    with screen.work("the folder is as it was") as progress:
        check_port(folder)
        record = open_record(folder)
        # The factory of a source is code as well as the folder's own file.
        demand_trust(
            folder / record.file, file_of(folder, record), record.digest, trust=trust
        )
        progress("load")
        built = rebuilt(folder, record.source, source)
        ported = ivyport.load(folder, trust=trust, changed=True)
        names = trained(ported)
        report = ivyport.verify(
            built.model,
            ported,
            kwargs=built.inputs,
            **built.weights(),
            structure=bool(names),
            progress=progress,
        )
    if as_json:
        told = {"folder": str(folder), "trained": names}
        screen.json(told | verdict(report))
    else:
        if names:
            screen.line(
                f"weights have changed since the port: {len(names)} of "
                f"{len(record.as_ported)}. What follows compares the port's code, with the "
                "source's weights in it."
            )
        screen.parity(report)
    raise typer.Exit(code(report))


@weights_app.command("home")
def weights_home(
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="A saved port.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder to write.")],
    changed: Annotated[
        bool, typer.Option("--changed", help="Take weights that you wrote into OUT.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace weights that are there.")
    ] = False,
) -> None:
    """Send fine-tuned weights home: back to the source's names and layouts.

    OUT is the folder that `save_pretrained` of the trained model, or `ivyport.save`, wrote.
    """
    screen = Screen()
    with screen.work() as progress:
        check_port(folder)
        progress("weights")
        trained = ivyport.send_home(
            folder, out, overwrite=overwrite, changed=changed, progress=progress
        )
        known = open_record(folder).as_ported
    screen.line(f"weights: {out}")
    if trained:
        screen.line(
            f"{len(trained)} of {len(known)} weights were trained since the port"
        )
    elif known:
        screen.line(
            "note: no weight has changed since the port. Weights of a model that is trained "
            "are in the folder that its save_pretrained writes"
        )


@zoo_app.command("list")
def zoo_list(as_json: Json = False) -> None:
    """List the models that ivyport knows by name."""
    from ivyport.zoo.haiku.catalogue import ENTRIES
    from ivyport.zoo.hf_configs import PUBLISHED

    screen = Screen(as_json=as_json)
    if as_json:
        models = [
            {"model": name, "type": entry.model_type, "class": entry.architecture}
            for name, entry in PUBLISHED.items()
        ]
        haikus = [
            {
                "model": name,
                "title": entry.title,
                "variants": {v: made.weights for v, made in entry.variants.items()},
            }
            for name, entry in ENTRIES.items()
        ]
        screen.json({"hf": models, "haiku": haikus})
        return
    width = max(len(name) for name in (*PUBLISHED, *ENTRIES))
    for name, model in PUBLISHED.items():
        screen.line(f"hf {name:<{width}} {model.architecture}")
    for name, entry in ENTRIES.items():
        variants = f": {', '.join(entry.variants)}" if len(entry.variants) > 1 else ""
        screen.line(f"haiku {name:<{width - 3}} {entry.title}{variants}")


def main() -> None:
    """Run the command line and exit with its code."""
    try:
        app()
    except IvyportError as error:
        # Only with IVYPORT_DEBUG=1: the panel has been shown already.
        traceback.print_exc()
        sys.exit(code_of(error))
    except Exception:  # noqa: BLE001  # shown whole; only the exit code is chosen here
        traceback.print_exc()
        sys.exit(DEFECT)


if __name__ == "__main__":
    main()
