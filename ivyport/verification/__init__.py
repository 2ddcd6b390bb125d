"""Does a port compute what its source computes? Outputs, gradients, a training step."""

from __future__ import annotations

from ivyport.verification.check import check, parity_error
from ivyport.verification.run import run
from ivyport.verification.tolerance import DEFAULT, Tolerance, Tolerances

__all__ = ["DEFAULT", "Tolerance", "Tolerances", "check", "parity_error", "run"]
