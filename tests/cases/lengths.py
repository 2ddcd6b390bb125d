"""A helper of another file than the model's, which asks a tensor for its length."""

from __future__ import annotations

import torch


def counted(rows: torch.Tensor) -> torch.Tensor:
    """0, 1, ... of as many as there are rows."""
    return torch.arange(len(rows))
