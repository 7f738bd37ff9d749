"""A legal call of each op whose arguments must fit one another: random arguments seldom do.

The fuzzers take these calls and change an argument or two. `TENSORS` are constants beside the pool of
op_fuzz.py; in a call a word is one of them, or an expression of Python's numbers.
"""

from __future__ import annotations

from typing import Any

import torch

I64 = torch.int64
LEAST = {t: torch.iinfo(t).min for t in (torch.int8, torch.int16, torch.int32, I64)}


def counted(*shape: int) -> torch.Tensor:
    """Different numbers, some of them negative."""
    return torch.arange(float(torch.Size(shape).numel())).reshape(shape) * 0.37 % 3 - 1


TENSORS: dict[str, torch.Tensor] = {
    "square": torch.tensor([[4.0, 1, 0], [1, 5, 2], [0, 2, 6]]),
    "square64": torch.tensor([[4.0, 1], [1, 3]], dtype=torch.float64),
    "singular": torch.ones(3, 3),
    "wide": counted(3, 4),
    "tall": counted(4, 3),
    "vec3": counted(3),
    "vec4": counted(4),
    "batch": counted(2, 3, 3) + 4 * torch.eye(3),
    "batch34": counted(2, 3, 4),
    "image": counted(1, 4, 5, 6),
    "line": counted(2, 4, 8),
    "kernel": counted(2, 4, 3, 3),
    "two": counted(2),
    "columns": counted(1, 16, 12),
    "pairs": counted(3, 2),
    "spectrum": torch.complex(counted(3, 3), counted(3, 3)),
    "rows": torch.tensor([0, 2, 1]),
    "rows2d": torch.tensor([[0, 1, 2, 0], [2, 1, 0, 0]]),
    "outside": torch.tensor([0, 3, 99]),
    "below": torch.tensor([-1, 0, -3]),
    "least64": torch.tensor([LEAST[I64], 7, -1, LEAST[I64], LEAST[I64]]),
    "other64": torch.tensor([7, LEAST[I64], LEAST[I64], -1, -1]),
    "least32": torch.tensor([LEAST[torch.int32], 7, -1] * 3, dtype=torch.int32),
    "other32": torch.tensor(
        [-1, LEAST[torch.int32], 2**31 - 1] * 2 + [2**31 - 1, 1, -1], dtype=torch.int32
    ),
    "least8": torch.tensor([-128, 7, -1] * 11, dtype=torch.int8),
    "other8": torch.tensor([-1, -128, 127] * 11, dtype=torch.int8),
    "mask": counted(3, 3) > 0,
    "pivots": torch.tensor([1, 2, 3], dtype=torch.int32),
    "bad pivots": torch.tensor([9, -9, 1 << 30], dtype=torch.int32),
    "shares": torch.tensor([0.2, 0.5, 0.3]),
    "large": torch.tensor([1e38, -1e38, float("inf")]),
    "unsorted": torch.tensor([5, 0, 99]),
    "none": torch.zeros(0, 3),
}
# Op -> the arguments of legal calls by position, and by keyword after a bar.
CALLS: dict[str, list[str]] = {
    "_adaptive_avg_pool2d": ["image [2, 3]"],
    "_cdist_forward": ["square wide.t 2.0 None", "square square 3.0 1", "batch batch 0.0 2"],
    "_fft_c2c": ["spectrum [0, 1] 0 True"],
    "_fft_c2r": ["spectrum [1] 2 4", "spectrum [0] 0 5"],
    "_fft_r2c": ["square [0, 1] 1 True", "wide [1] 0 False"],
    "_linalg_det": ["square", "batch"],
    "_linalg_eigh": ["square", "square 'U' False", "batch"],
    "_linalg_slogdet": ["square"],
    "_linalg_solve_ex": ["square wide", "square vec3", "square tall | left=False"],
    "_linalg_svd": ["wide", "wide True", "batch34 False False"],
    "_log_softmax_backward_data": ["square square -1 float32", "wide wide 0 float32"],
    "_softmax_backward_data": ["square square -1 float32", "wide wide 0 float32"],
    "_log_softmax": ["square -1 False", "wide 0 False"],
    "_softmax": ["square -1 False", "batch 1 False"],
    "_native_batch_norm_legit.no_stats": ["image vec4 vec4 True 0.1 1e-5"],
    "native_batch_norm": [
        "image vec4 vec4 None None True 0.1 1e-5",
        "line None None vec4 vec4 False 0.1 0.1",
    ],
    "native_group_norm": ["image vec4 vec4 1 4 30 2 1e-5", "line vec4 None 2 4 8 4 1e-5"],
    "native_layer_norm": ["wide [4] vec4 vec4 1e-5", "batch34 [3, 4] wide None 1e-5"],
    "native_layer_norm_backward": ["wide wide [4] vec3 vec3 vec4 vec4 [True, True, True]"],
    "_unique2": ["square True True True"],
    "unique_dim": ["square 0 True True True"],
    "_unsafe_index.Tensor": ["square [rows]", "square [rows, rows]"],
    "index.Tensor": ["square [rows]", "square [None, rows]", "square [mask]"],
    "index_put": ["square [rows] wide.t3 False", "square [rows, rows] vec3 True"],
    "addbmm": ["square batch batch", "wide batch batch34 | beta=0"],
    "addmm": ["wide square wide", "wide square wide | beta=0 alpha=2.0"],
    "addmv": ["vec3 wide vec4", "vec3 square vec3 | beta=0"],
    "addr": ["wide vec3 vec4"],
    "baddbmm": ["batch34 batch batch34", "batch34 batch batch34 | beta=0"],
    "bmm": ["batch batch34"],
    "mm": ["square wide"],
    "mv": ["wide vec4"],
    "dot": ["vec3 vec3"],
    "vdot": ["vec4 vec4"],
    "as_strided": ["wide [2, 3] [3, 1]", "wide [2] [0] 11"],
    "as_strided_scatter": ["wide two [2] [3] 1"],
    "avg_pool2d": ["image [2, 2]", "image [3, 3] [2, 1] [1, 1] True False 2"],
    "max_pool2d_with_indices": ["image [2, 2]", "image [3, 3] [2, 1] [1, 1] [1, 1] True"],
    "binary_cross_entropy": ["shares shares", "shares shares vec3 2"],
    **{
        f"bitwise_{op}": ["least64 other64", "mask mask", "least32 other32"]
        for op in (
            "and.Tensor",
            "or.Tensor",
            "xor.Tensor",
            "left_shift.Tensor",
            "right_shift.Tensor",
        )
    },
    **{
        f"bitwise_{op}": ["least64 -1", "least64 63", "least32 64", "mask True"]
        for op in ("and.Scalar", "or.Scalar", "xor.Scalar")
    },
    "bitwise_left_shift.Tensor_Scalar": ["least64 63", "least32 -1", "least32 400"],
    "bitwise_right_shift.Tensor_Scalar": ["least64 63", "least32 -1", "least32 400"],
    "channel_shuffle": ["image 2"],
    "cholesky_solve": ["wide square", "vec3.c square True"],
    "col2im": [
        "columns [5, 6] [2, 2] [1, 1] [0, 0] [2, 1]",
        "columns [4, 5] [2, 2] [1, 1] [0, 0] [1, 1]",
    ],
    "im2col": ["image [2, 2] [1, 1] [0, 0] [1, 1]"],
    "convolution": [
        "image kernel two [1, 1] [1, 1] [1, 1] False [0, 0] 1",
        "image kernel.g None [2, 1] [0, 1] [1, 2] False [0, 0] 2",
        "image kernel.t two [2, 2] [1, 1] [1, 1] True [1, 1] 1",
    ],
    "upsample_linear1d": ["line [16] True", "line [5] False 0.6"],
    "upsample_nearest1d": ["line [16]", "line [5] 0.7"],
    "diagonal_scatter": ["square vec3"],
    "select_scatter": ["wide vec4 0 1"],
    "slice_scatter": ["wide pairs 1 0 2", "wide square 1 0 3"],
    "select_backward": ["vec4 [3, 4] 0 1"],
    "slice_backward": ["square [3, 4] 1 0 3 1"],
    "expand": ["vec3 [2, 3]"],
    "reshape": ["wide [2, 6]", "wide [-1]"],
    "split_with_sizes_copy": ["wide [1, 3] 1"],
    **{
        op: ["least64 other64", "least32 other32", "least8 other8", "least64 least64"]
        for op in ("gcd", "floor_divide")
    },
    **{
        op: ["least64 other64", "least32 other32"]
        for op in (
            "remainder.Tensor",
            "fmod.Tensor",
            "div.Tensor",
            "mul.Tensor",
            "pow.Tensor_Tensor",
        )
    },
    **{
        op: ["least64 -1", "least32 -1", "least64 0", "other64 9223372036854775807"]
        for op in (
            "remainder.Scalar",
            "fmod.Scalar",
            "floor_divide.Scalar",
            "div.Scalar",
            "pow.Tensor_Scalar",
        )
    },
    "div.Tensor_mode": [
        "least64 other64 | rounding_mode='floor'",
        "wide wide | rounding_mode='trunc'",
    ],
    "div.Scalar_mode": ["least64 -1 | rounding_mode='floor'", "least32 7 | rounding_mode='trunc'"],
    "remainder.Scalar_Tensor": ["-9223372036854775808 other64", "7 least32"],
    "pow.Scalar": ["-1 other64", "0 least32"],
    "ormqr": ["square vec3 wide", "tall vec3 tall", "square vec3 square False True"],
    "gather": ["wide 0 rows2d", "wide 1 rows2d"],
    "scatter.src": ["wide 0 rows2d wide", "wide 1 rows2d wide"],
    "scatter.value": ["wide 0 rows2d 0.5"],
    "scatter.reduce": ["wide 0 rows2d wide | reduce='add'"],
    "scatter.value_reduce": ["wide 0 rows2d 0.5 | reduce='multiply'"],
    "scatter_add": ["wide 0 rows2d wide"],
    "scatter_reduce.two": [
        "wide 0 rows2d wide 'mean'",
        "wide 0 rows2d wide 'prod' | include_self=False",
    ],
    "index_add": ["square 0 rows square", "wide 0 rows wide"],
    "index_copy": ["square 0 rows square"],
    "index_fill.int_Scalar": ["square 0 rows 0.5"],
    "index_fill.int_Tensor": ["square 1 rows one"],
    "index_select": ["square 0 rows", "wide 1 rows"],
    "take": ["square rows", "square rows2d"],
    "linalg_cholesky_ex": ["square", "batch | upper=True"],
    "linalg_cross": ["square square | dim=0"],
    "linalg_eig": ["square"],
    "linalg_inv_ex": ["square", "singular", "batch"],
    "linalg_ldl_factor_ex": ["square", "batch"],
    "linalg_lstsq": ["tall tall", "tall tall | driver='gelsd'", "wide pairs 0.1 | driver='gelsy'"],
    "linalg_lu": ["tall", "batch34"],
    "linalg_lu_factor_ex": ["wide", "square"],
    "linalg_matrix_exp": ["square"],
    "linalg_pinv.atol_rtol_tensor": ["wide", "wide | atol=one rtol=one"],
    "linalg_qr": ["wide", "tall 'complete'", "tall 'r'"],
    "linalg_solve_triangular": ["square wide | upper=True", "square tall | upper=False left=False"],
    "lu_unpack": ["square pivots True False", "wide pivots True False", "square bad True False"],
    "masked_fill.Scalar": ["square mask 0.5"],
    "masked_fill.Tensor": ["square mask one"],
    "masked_scatter": ["square mask wide", "square mask two"],
    "masked_select": ["square mask"],
    "multinomial": ["shares 2", "shares 9 True", "large 1"],
    "norm.ScalarOpt_dim_dtype": ["wide 2 [0] False | dtype=float64"],
    "poisson": ["shares"],
    "view_as_complex": ["pairs"],
    "view_as_real": ["spectrum"],
    "complex": ["square square"],
    "polar": ["square square"],
    "where.self": ["mask square square"],
    "searchsorted.Tensor": [
        "vec4 square",
        "vec3 vec3 | sorter=rows",
        "vec3 vec3 | sorter=unsorted",
    ],
    "searchsorted.Scalar": ["vec4 0.5", "vec3 0.5 | sorter=unsorted"],
    "bucketize.Tensor": ["square vec4"],
    "kthvalue": ["wide 2", "wide 3 0 True"],
    "topk": ["wide 2", "wide 3 0 False False"],
    "_pdist_forward": ["wide", "wide 1.0"],
    "renorm": ["wide 2 0 1.0"],
    "histc": ["wide 5", "wide 5 -1 1", "large 3"],
    "constant_pad_nd": ["wide [1, 2]", "wide [-1, 2, 1, -1] 0.5"],
    "block_diag": ["[wide, square]"],
    "unfold": ["wide 1 2 1"],
    "tril_indices": ["3 4", "4 3 -1"],
    "triu_indices": ["3 4", "4 3 -1"],
    "bernoulli.Tensor": ["vec3 shares", "wide one"],
    "nansum": ["wide [0]", "wide []", "wide None True"],
    "normal.Tensor_Tensor": ["wide wide.a", "vec3 shares"],
    "trace": ["wide"],
    "diag_embed": ["vec3", "wide 1"],
    "mse_loss_backward": ["one square square 1", "square square square 0"],
    "smooth_l1_loss_backward": ["one square square 1 1.0", "square square square 0 0.5"],
    "huber_loss_backward": ["one square square 1 1.0", "square square square 0 0.5"],
    "elu_backward": ["square 1.0 1.0 1.0 False square"],
    "leaky_relu_backward": ["square square 0.1 False"],
}
TENSORS["one"] = torch.tensor(0.25)
TENSORS["wide.t"] = counted(5, 3)
TENSORS["wide.t3"] = counted(3, 3)
TENSORS["wide.a"] = counted(3, 4).abs()
TENSORS["vec3.c"] = counted(3, 1)
TENSORS["kernel.g"] = counted(4, 2, 3, 3)
TENSORS["kernel.t"] = counted(4, 2, 3, 3)
TENSORS["bad"] = TENSORS.pop("bad pivots")
NAMES = list(TENSORS)


def parsed(word: str, first: int) -> Any:
    """An argument as raw data: a constant of the pool, which begin at node `first`, or a plain value."""
    if word in TENSORS:
        return {"n": first + NAMES.index(word)}
    if word.startswith("["):
        inner = [w for w in word[1:-1].replace(",", " ").split() if w]
        return [parsed(w, first) for w in inner]
    if word in ("float32", "float64", "int64"):
        return {"t": word}
    if word in ("None", "True", "False"):
        return {"None": None, "True": True, "False": False}[word]
    if word.startswith("'"):
        return word.strip("'")
    return int(word) if word.lstrip("-").isdigit() else {"f": float(word).hex()}


def words_of(text: str) -> list[str]:
    """The arguments in a text; brackets hold one together."""
    words, depth = [""], 0
    for c in text.strip():
        depth += (c == "[") - (c == "]")
        if c == " " and not depth:
            words.append("")
        else:
            words[-1] += c
    return [word for word in words if word]


def legal_call(op: str, number: int, first: int) -> tuple[list[Any], dict[str, Any]] | None:
    """The arguments of a legal call, by position and by keyword; None where there is none."""
    name = op.removeprefix("aten.").removesuffix(".default")
    if not (calls := CALLS.get(name)):
        return None
    by_position, _, by_name = calls[number % len(calls)].partition("|")
    pairs = (word.partition("=") for word in words_of(by_name))
    args = [parsed(word, first) for word in words_of(by_position)]
    return args, {key: parsed(value, first) for key, _, value in pairs}
