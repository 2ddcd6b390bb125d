"""Properties of every emitted file, on a tiny model of several families."""

from __future__ import annotations

import ast
import functools
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("flax")

from ivyport.modules.file import STANDARD
from tests.modules.emission import (
    classes,
    emit_module,
    family,
    fields,
    methods,
    statements,
)

ROOT = Path(__file__).resolve().parent.parent.parent
HANDWRITTEN = ROOT / "tests" / "data" / "modeling_minilm_handwritten.py"
FAMILIES = ("bert", "gpt2", "llama", "t5", "swin", "resnet", "clip", "wav2vec2")
ALLOWED = {"jax", "flax", "numpy", "safetensors"}

every_family = pytest.mark.parametrize("name", FAMILIES)


@functools.cache
def tree(name: str) -> ast.Module:
    return ast.parse(family(name).source)


@every_family
def test_imports(name: str) -> None:
    for node in ast.walk(tree(name)):
        modules = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            modules = [str(node.module)]
        for module in modules:
            root = module.partition(".")[0]
            assert root in ALLOWED or root in sys.stdlib_module_names, module


@every_family
@pytest.mark.parametrize(
    "command",
    [
        ["format", "--check"],
        ["check", "--extend-select", "I", "--no-cache"],
    ],
    ids=lambda c: c[0],
)
def test_ruff(name: str, command: list[str], tmp_path: Path) -> None:
    file = tmp_path / "modeling_model.py"
    file.write_text(family(name).source, encoding="utf-8")
    isolated = ["--isolated", str(file)]
    run = [sys.executable, "-m", "ruff", *command, *isolated]
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@every_family
def test_lines_fit(name: str) -> None:
    long = [line for line in family(name).source.split("\n") if len(line) > 88]
    assert not long
    assert family(name).source.endswith("\n")
    assert not family(name).source.endswith("\n\n")


def functions(name: str) -> list[tuple[str, ast.FunctionDef]]:
    """Every method of the emitted modules, with a name for messages."""
    return [
        (f"{cls.name}.{item.name}", item)
        for cls in classes(family(name).source).values()
        for item in cls.body
        if isinstance(item, ast.FunctionDef)
    ]


def stores(function: ast.FunctionDef) -> set[str]:
    """Local variables that a function assigns."""
    return {
        n.id
        for n in ast.walk(function)
        if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
    }


@every_family
def test_values_are_named_by_role(name: str) -> None:
    """Never by what torch's capture calls them: `add_17`, `arg0_1`, `getitem_2`."""
    from ivyport.core.opdef import REGISTRY

    operations = set(REGISTRY) | {
        "arg",
        "tensor",
        "unsqueeze",
        "expand",
        "slice",
        "view",
    }
    own = {"linear", "attention", "embedding", "dropout", "gate", "pad", "index"}
    for place, function in functions(name):
        for variable in stores(function):
            base = re.sub(r"(_?\d+)+$", "", variable)
            numbered = re.fullmatch(r"[a-z_]+_\d{2,}", variable)
            assert not numbered, f"{place}: {variable}"
            if base != variable:
                assert base not in operations - own, f"{place}: {variable}"
            assert len(variable) < 40, f"{place}: {variable}"


@every_family
def test_every_assigned_variable_is_read(name: str) -> None:
    for place, function in functions(name):
        read = {
            n.id
            for n in ast.walk(function)
            if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)
        }
        assert stores(function) - read <= {"_"}, place


@every_family
def test_no_assignment_is_overwritten_unread(name: str) -> None:
    """In each straight run of statements."""
    for place, function in functions(name):
        pending: dict[str, int] = {}
        for statement in function.body:
            if not isinstance(statement, ast.Assign):
                pending = {}
                continue
            for node in ast.walk(statement.value):
                if isinstance(node, ast.Name):
                    pending.pop(node.id, None)
            for target in statement.targets:
                if isinstance(target, ast.Name):
                    assert target.id not in pending, f"{place}: {target.id}"
                    pending[target.id] = statement.lineno


@every_family
def test_every_argument_and_attribute_is_used(name: str) -> None:
    for cls in classes(family(name).source).values():
        read, written = set(), set()
        for node in ast.walk(cls):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "self":
                (written if isinstance(node.ctx, ast.Store) else read).add(node.attr)
        assert written <= read, f"{cls.name}: {written - read}"
        for function in cls.body:
            if isinstance(function, ast.FunctionDef) and "call" in function.name:
                names = {n.id for n in ast.walk(function) if isinstance(n, ast.Name)}
                arguments = {a.arg for a in function.args.args} - {"self"}
                unused = arguments - names
                root = cls.name == family(name).cls
                assert root or not unused, f"{cls.name}: {unused}"


@every_family
def test_every_class_and_helper_is_used(name: str) -> None:
    names = [n.id for n in ast.walk(tree(name)) if isinstance(n, ast.Name)]
    for item in tree(name).body:
        if isinstance(item, ast.ClassDef | ast.FunctionDef):
            assert item.name in names or item.name == family(name).cls, item.name


@every_family
def test_no_identities(name: str) -> None:
    """Casts of casts, x + 0, x * 1, reshapes to the own shape, transposes that cancel."""
    for place, function in functions(name):
        for node in ast.walk(function):
            text = ast.unparse(node) if isinstance(node, ast.Call | ast.BinOp) else ""
            assert not re.search(r"\.astype\([\w.]+\)\.astype\(", text), place
            assert not re.search(r"transpose\([\d, ]+\)\.transpose\(", text), place
            assert ".mT.mT" not in text, place
            assert not re.search(r"\.T\.T\b", text), place
            assert not re.search(r"reshape\([^()]*\)\.reshape\(", text), place
            if isinstance(node, ast.BinOp) and isinstance(node.right, ast.Constant):
                pair = (type(node.op), node.right.value)
                assert pair not in {(ast.Mult, 1.0), (ast.Div, 1.0), (ast.Sub, 0.0)}, (
                    text
                )
                assert pair != (ast.Pow, 1), text


@every_family
def test_no_baked_batch_size(name: str) -> None:
    """No reshape begins with the size of the example's batch, which is 2."""
    for place, function in functions(name):
        for node in ast.walk(function):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            if ast.unparse(node.func).endswith((".reshape", "broadcast_to")):
                first = node.args[0]
                baked = isinstance(first, ast.Constant) and first.value == 2
                assert not baked, f"{place}: {ast.unparse(node)}"


SOURCE_CLASSES = {
    "bert": "BertEmbeddings BertSelfAttention BertSelfOutput BertAttention "
    "BertIntermediate BertOutput BertLayer BertEncoder BertPooler",
    "gpt2": "GPT2Attention GPT2MLP GPT2Block",
    "llama": "LlamaAttention LlamaMLP LlamaDecoderLayer LlamaModel",
    "t5": "T5Attention T5LayerSelfAttention T5LayerCrossAttention T5Block T5Stack",
    "swin": "SwinPatchMerging SwinSelfAttention SwinLayer SwinStage SwinEncoder",
    "resnet": "ResNetConvLayer ResNetBottleNeckLayer ResNetStage ResNetEncoder",
    "clip": "CLIPAttention CLIPMLP CLIPEncoderLayer CLIPVisionEmbeddings",
    "wav2vec2": "Wav2Vec2FeatureEncoder Wav2Vec2Attention Wav2Vec2EncoderLayer",
}


@every_family
def test_classes_are_the_source_s(name: str) -> None:
    import transformers

    from ivyport.zoo import hf, hf_configs

    model = hf.build(hf_configs.tiny_config(name))
    theirs = {type(m).__name__ for m in model.modules()} | {type(model).__name__}
    ours = set(classes(family(name).source))
    helpers = {"BatchNorm", "Buffer"}
    assert {re.sub(r"\d$", "", c) if c not in theirs else c for c in ours} <= (
        theirs | helpers
    )
    wanted = set(SOURCE_CLASSES[name].split())
    existing = {c for c in wanted if c in theirs}
    assert existing <= ours, existing - ours
    assert len(existing) >= min(3, len(wanted)), transformers.__version__


@every_family
def test_every_class_has_a_constructor_a_call_and_no_more(name: str) -> None:
    for cls in classes(family(name).source).values():
        found = methods(cls)
        assert found[0] == "__init__", cls.name
        assert found[1] == "__call__", cls.name
        rest = {m for m in found[2:] if not re.fullmatch(r"call_\d", m)}
        assert rest <= {"from_pretrained", "save_pretrained"}, cls.name
    found = methods(classes(family(name).source)[family(name).cls])
    assert {"from_pretrained", "save_pretrained"} <= set(found)


def test_bert_has_native_layers() -> None:
    source = family("bert").source
    for text in ("nnx.Linear(", "nnx.LayerNorm(", "nnx.Embed(", "nnx.List("):
        assert text in source
    assert source.count(" = attention(") == 1
    assert "for layer in self.layer:" in source
    assert "range(config.num_hidden_layers)" in source


def test_a_reader_can_change_the_number_of_layers() -> None:
    """In one place: the field of the configuration."""
    from flax import nnx

    from ivyport.backends.jax import realize

    emitted = family("bert")
    module = realize.compile_source(emitted.source, "layers")
    config = vars(module)[str(emitted.config)](num_hidden_layers=5)
    model = nnx.eval_shape(lambda: vars(module)[emitted.cls](config, rngs=nnx.Rngs(0)))
    assert len(model.encoder.layer) == 5


def test_every_module_that_copied_functions_import_is_imported() -> None:
    from ivyport.backends import files

    tree = ast.parse(Path(files.__file__).read_text(encoding="utf-8"))
    imports = [node for node in tree.body if isinstance(node, ast.Import)]
    assert {name.name for node in imports for name in node.names} <= set(STANDARD)


# What writes a folder and tells one from a damaged one: nobody writes that by hand.
CHECKING = ("saved_files", "demand_saved", "load_weights")
CHECKING += (
    "save_pretrained",
    "write_pretrained",
    "write_weights",
    "remove_stale",
    "is_weights",
    "demand_own",
    "described",
)


def test_emitted_bert_is_at_most_half_as_long_again_as_a_hand_written_one() -> None:
    """bert-base's own configuration; only its vocabulary is smaller, to be quick."""
    import torch
    from transformers import BertConfig, BertModel

    from ivyport.zoo import hf_inputs

    with torch.device("cpu"):
        model = BertModel(BertConfig(vocab_size=64)).eval()
    inputs = hf_inputs.example_inputs(model)
    emitted = emit_module(model, inputs, hf_inputs.dims(model, inputs), fields(model))
    ours = statements(emitted.source, without=CHECKING)
    theirs = statements(HANDWRITTEN.read_text(encoding="utf-8"))
    assert ours <= 1.5 * theirs, f"{ours} of {theirs}: {ours / theirs:.2f}"
    assert len(classes(emitted.source)) == 10


SCRIPT = """
import json, sys
sys.path.insert(0, sys.argv[1])
from tests.modules.emission import family
print(json.dumps({name: family(name).source for name in sys.argv[2:]}))
"""


def test_two_processes_emit_the_same_bytes() -> None:
    names = ["bert", "t5", "swin"]
    found = []
    for seed in "01":
        env = {**os.environ, "PYTHONHASHSEED": seed}
        run = [sys.executable, "-c", SCRIPT, str(ROOT), *names]
        done = subprocess.run(
            run, capture_output=True, text=True, check=True, env=env, cwd=ROOT
        )
        found.append(json.loads(done.stdout.strip().split("\n")[-1]))
    assert found[0] == found[1]
    assert found[0]["bert"] == family("bert").source
