"""Which functional operator each in-place operator is; the driver rebinds the result.

The result takes the dtype of the tensor that is written to, for torch casts it back.
"""

from __future__ import annotations

from typing import Any

import torch

aten = torch.ops.aten

# Overload, then operators that have it in both forms (`add_` writes, `add` does not).
OVERLOADS = {
    "default": (
        "abs absolute acos acosh addcdiv addcmul addmm addmv addr arccos arcsin arctan arctan2 asin"
        " asinh atan atan2 atanh baddbmm bitwise_not ceil celu clamp clamp_max"
        " clamp_min clip copy cos cosh cumprod cumsum deg2rad rad2deg renorm sinc heaviside"
        " detach dropout elu erf erfc erfinv exp exp2 expm1"
        " feature_dropout fix floor frac gelu hardsigmoid hardswish hardtanh hypot"
        " index_add index_copy index_put leaky_relu log log10 log1p log2 logical_and"
        " logical_not logical_or logical_xor logit masked_scatter mish nan_to_num neg"
        " negative reciprocal relu relu6 round rsqrt scatter_add selu sgn sigmoid sign"
        " silu sin sinh sqrt square squeeze swapaxes swapdims t tan tanh threshold tril"
        " triu trunc unsqueeze zero"
    ),
    "Tensor": (
        "add bitwise_and bitwise_left_shift bitwise_or bitwise_right_shift bitwise_xor"
        " clamp clamp_max clamp_min clip div divide eq fill fmod ge greater"
        " greater_equal gt le lerp less less_equal lt masked_fill mul multiply ne"
        " not_equal remainder sub subtract true_divide xlogy"
    ),
    "Scalar": (
        "add bitwise_and bitwise_or bitwise_xor div divide eq fill floor_divide fmod ge"
        " greater greater_equal gt le lerp less less_equal lt masked_fill mul multiply"
        " ne not_equal remainder sub subtract true_divide"
    ),
    "Tensor_Scalar": "bitwise_left_shift bitwise_right_shift",
    "Tensor_mode": "div divide",
    "Scalar_mode": "div divide",
    "decimals": "round",
    "dim": "squeeze",
    "dims": "squeeze",
    "src": "scatter",
    "value": "scatter",
    "reduce": "scatter",
    "value_reduce": "scatter",
    "two": "scatter_reduce",
    "int_Scalar": "index_fill",
    "int_Tensor": "index_fill",
}

INPLACE: dict[Any, Any] = {
    getattr(getattr(aten, f"{name}_"), overload): getattr(getattr(aten, name), overload)
    for overload, names in OVERLOADS.items()
    for name in names.split()
}

# Where the two forms name their overloads differently.
INPLACE |= {
    aten.__iand__.Tensor: aten.__and__.Tensor,
    aten.__iand__.Scalar: aten.__and__.Scalar,
    aten.__ior__.Tensor: aten.__or__.Tensor,
    aten.__ior__.Scalar: aten.__or__.Scalar,
    aten.__ixor__.Tensor: aten.__xor__.Tensor,
    aten.__ixor__.Scalar: aten.__xor__.Scalar,
    aten.floor_divide_.Tensor: aten.floor_divide.default,
    aten.fill_diagonal_.default: aten.fill_diagonal_.default,
    aten.pow_.Tensor: aten.pow.Tensor_Tensor,
    aten.pow_.Scalar: aten.pow.Tensor_Scalar,
    aten.transpose_.default: aten.transpose.int,
}
