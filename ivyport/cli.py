"""The command line: parse, call the library, render.

Exit codes: 0 where the port agrees with its source, 1 where it does not, 2 where the
request or the source is at fault, 70 for a defect of ivyport or of the user's factory.
"""

from __future__ import annotations

import dataclasses
import sys
import traceback
from pathlib import Path
from typing import Annotated, Literal

import typer

import ivyport
from ivyport.cli_bench import bench
from ivyport.cli_jax import WeightsCommand, flax, haiku
from ivyport.cli_port import (
    Batch,
    DimsGiven,
    Factory,
    Inputs,
    Json,
    Keep,
    Out,
    Overwrite,
    To,
    Verify,
    check_port,
    code,
    port,
    verdict,
)
from ivyport.cli_render import DEFECT, OK, Screen, code_of
from ivyport.core.errors import IvyportError
from ivyport.folder import demand_trust
from ivyport.folder.manifest import parsed
from ivyport.saving import file_of, open_record, source_config, write_json

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
    verify: Verify = True,
    keep: Keep = False,
    overwrite: Overwrite = False,
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
    )
    screen = Screen(as_json=as_json)
    port(
        origin,
        to,
        out,
        verify=verify,
        screen=screen,
        dims=dims,
        keep=keep,
        overwrite=overwrite,
    )


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
    verify: Verify = True,
    keep: Keep = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Port any torch module: the one that a factory of yours returns."""
    from ivyport.zoo.origin import TorchOrigin

    origin = TorchOrigin(
        factory,
        inputs=tuple(input_ or ()),
        params=None if params is None else str(params),
    )
    screen = Screen(as_json=as_json)
    port(
        origin,
        to,
        out,
        verify=verify,
        screen=screen,
        dims=dims,
        keep=keep,
        overwrite=overwrite,
    )


@app.command()
def verify(
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="A saved port.")],
    source: Annotated[
        str | None, typer.Option(help="The source model, where it has moved.")
    ] = None,
    trust: Annotated[
        bool, typer.Option("--trust", help="Run the Python code of a folder of others.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Compare a saved port with its source again."""
    from ivyport.zoo.origin import origin_from_json

    screen = Screen(as_json=as_json)
    with screen.work() as progress:
        check_port(folder)
        record = open_record(folder)
        # The factory of a source is code as well as the folder's own file.
        demand_trust(folder, file_of(folder, record), record, trust=trust)
        origin = origin_from_json(record["source"])
        if source is not None:
            origin = dataclasses.replace(origin, model=source)
        progress("load")
        built = origin.build()
        ported = ivyport.load(folder, trust=trust, changed=True)
        report = ivyport.verify(
            built.model,
            ported,
            kwargs=built.inputs,
            **built.weights(),
            progress=progress,
        )
    if as_json:
        screen.json({"folder": str(folder)} | verdict(report))
    else:
        screen.parity(report)
    raise typer.Exit(code(report))


@weights_app.command("home")
def weights_home(
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="A saved port.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder to write.")],
) -> None:
    """Send fine-tuned weights home: back to the source's names and layouts."""
    screen = Screen()
    with screen.work() as progress:
        check_port(folder)
        from ivyport.weights.convert import send_home

        send_home(folder, out, progress=progress.counter("weights"))
        # transformers reads weights beside their configuration.
        config = folder / "config.json"
        if config.is_file() and not (out / "config.json").exists():
            values = parsed(config, config.read_bytes())
            write_json(out / "config.json", source_config(values))
    screen.line(f"weights: {out}")


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
