"""Why primitives have no rule, where that is by choice, and what to write instead."""

from __future__ import annotations

from ivyport.core.gaps import COMPLEX

_SIGNS = (
    "its vectors are unique up to signs alone, which frameworks choose in their own way"
)

ABSENT = {
    "complex": COMPLEX,
    "conj": COMPLEX,
    "eig": _SIGNS,
    "eigh": _SIGNS,
    "fft": COMPLEX,
    "imag": COMPLEX,
    "qr": _SIGNS,
    "random_gamma": (
        "draws of gamma, beta, Dirichlet and Student's t distributions are not ported; draw "
        "outside of the model and pass the array as an argument"
    ),
    "real": COMPLEX,
    "schur": _SIGNS,
    "svd": _SIGNS,
}
