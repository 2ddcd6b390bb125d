"""Checks of a port are as strict as its source, and one note says each."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import ivyport


def wav2vec2(kernel: tuple[int, ...], stride: tuple[int, ...]) -> nn.Module:
    """A tiny speech encoder with a chain of strided convolutions."""
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    torch.manual_seed(0)
    sizes = {
        "vocab_size": 30, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 16, "conv_dim": (8,) * len(kernel), "conv_stride": stride,
        "conv_kernel": kernel, "num_feat_extract_layers": len(kernel),
        "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2,
    }  # fmt: skip
    return Wav2Vec2Model(Wav2Vec2Config(**sizes)).eval()


@pytest.mark.parametrize(
    ("kernel", "stride", "least"), [((4, 3, 2), (2, 2, 1), 12), ((3, 2), (2, 2), 5)]
)
def test_speech_is_as_short_as_the_source_takes(
    kernel: tuple[int, ...], stride: tuple[int, ...], least: int
) -> None:
    """All conditions of the convolutions come down to one: the shortest signal."""
    net = wav2vec2(kernel, stride)
    x = torch.randn(2, 40)
    port = ivyport.transpile(net, "torch", kwargs={"input_values": x}, train=False)
    record = ivyport.api._PORTS[port]
    notes = [note for note in record.notes if note.startswith("Sizes are taken")]
    assert len(notes) == 1
    assert f"samples >= {least}," in notes[0]
    for batch in (1, 2):
        for length in range(1, 24):
            signal = torch.randn(batch, length)
            if length < least:
                with pytest.raises(ValueError, match=f"L >= {least} are due"):
                    port(input_values=signal)
                with pytest.raises((RuntimeError, ValueError)):
                    net(signal)
                continue
            found = port(input_values=signal).last_hidden_state
            torch.testing.assert_close(found, net(signal).last_hidden_state)


class Flat(nn.Module):
    """A neighbour: a product of sizes whose question about 1 is the source's own."""

    def __init__(self) -> None:
        super().__init__()
        self.lin = nn.Linear(8, 8)

    def forward(self, x):
        h = x.reshape(-1, 8)
        return self.lin(h) * (2 if h.shape[0] != 1 else 3)


def test_question_of_the_source_about_one_stays() -> None:
    net = Flat().eval()
    port = ivyport.transpile(
        net, "torch", kwargs={"x": torch.randn(3, 7, 8)}, train=False
    )
    for shape in [(1, 2, 8), (2, 1, 8)]:
        x = torch.randn(shape)
        torch.testing.assert_close(port(x), net(x))
    with pytest.raises(ValueError, match="are due"):
        port(torch.randn(1, 1, 8))
