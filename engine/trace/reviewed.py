"""Why each allowed overload is harmless for arguments that the Python API would never pass.

A word is a base name and stands for its allowed overloads. Every allowed overload is in one group. The
reason says what torch does with wrong arguments. tests/engine/trace/poison.py tries it for each of them:
they are refused or make other numbers, and no call reads or writes outside its tensors, kills the process,
or returns memory that nobody has written to.
"""

from __future__ import annotations

from .trust import RULES

ELEMENTWISE = (
    "Torch broadcasts all tensors and promotes their types, or refuses; numbers are only numbers."
)
AXES = "Axes and lengths are compared with the rank and the shape; the result's shape follows from them."
INDICES = "Each index is compared with the length before anything is read or written there."
SIZES = "The arguments say the size, which the trace's budget bounds; all of it is written."
MATRICES = (
    "Ranks, sizes and types are compared before BLAS or LAPACK is called; bad numbers make NaN."
)
DRAWS = "A key seeds the draw, and torch refuses parameters that are out of range."
UNKNOWN = (
    "The result's size depends on values, so it is asked for and never worked out from shapes."
)
TRUSTS = "It trusts some argument. A rule in trust.py refuses what Python never passes."

GROUPS: dict[str, str] = {
    ELEMENTWISE: """
abs acos acosh add addcdiv addcmul angle asin asinh atan atan2 atanh bitwise_and
bitwise_left_shift bitwise_not bitwise_or bitwise_right_shift bitwise_xor bucketize ceil celu clamp
clamp_max clamp_min complex copysign cos cosh deg2rad digamma elu elu_backward eq erf erfc erfinv exp
exp2 expm1 floor floor_divide fmax fmin fmod frac gcd ge gelu gelu_backward gt hardshrink hardsigmoid
hardswish hardtanh hardtanh_backward heaviside hypot i0 isinf isnan
isneginf isposinf ldexp le leaky_relu leaky_relu_backward lerp lgamma log log10 log1p log2
log_sigmoid_forward logaddexp logaddexp2 logical_and logical_not logical_or logical_xor logit
logit_backward lt masked_fill maximum minimum mish mse_loss mul nan_to_num ne neg
nextafter polar polygamma rad2deg reciprocal relu remainder round rsqrt rsub sgn sigmoid
sigmoid_backward sign signbit silu silu_backward sin sinc sinh smooth_l1_loss
softplus softplus_backward softshrink special_entr special_erfcx special_i0e special_i1 special_i1e
special_log_ndtr special_ndtri special_xlog1py special_zeta sqrt sub tan tanh tanh_backward threshold
trunc where xlogy _to_copy
""",
    AXES: """
all amax amin aminmax any argmax argmin count_nonzero cummax cummin cumprod cumsum dist dot glu
kthvalue linalg_vector_norm logcumsumexp max mean median min mode nanmedian nansum norm prod
std std_mean sum trace var var_mean vdot _softmax _log_softmax sort
topk renorm _cdist_forward _pdist_forward alias detach diagonal diagonal_copy diagonal_scatter expand
flip permute reshape roll rot90 select select_scatter slice slice_scatter split_with_sizes_copy squeeze
tril triu unsqueeze view_as_complex view_as_real cat stack
""",
    INDICES: """
gather index_add index_copy index_fill index_put index_select masked_scatter scatter scatter_add
scatter_reduce searchsorted take _unsafe_index
""",
    SIZES: """
arange block_diag constant_pad_nd eye full full_like histc linspace logspace ones repeat select_backward
slice_backward zeros
""",
    MATRICES: """
addbmm addmm addmv addr baddbmm bmm cholesky_solve linalg_cholesky_ex linalg_cross linalg_eig
linalg_inv_ex linalg_ldl_factor_ex linalg_lstsq linalg_lu linalg_lu_factor_ex linalg_matrix_exp
linalg_pinv linalg_qr linalg_solve_triangular mm mv ormqr _linalg_det _linalg_eigh _linalg_slogdet
_linalg_solve_ex _linalg_svd
""",
    DRAWS: """
cauchy exponential geometric log_normal multinomial normal normal_functional poisson rand rand_like
randint randint_like randn randn_like uniform
""",
    UNKNOWN: "index masked_select nonzero unique_dim _unique2",
    TRUSTS: " ".join(RULES),
}


def group_of(op: str) -> list[str]:
    """Return the reasons of the groups that an overload such as "aten.add.Tensor" is in."""
    name = op.split(".")[1]
    return [reason for reason, words in GROUPS.items() if name in words.split()]
