"""The ATen operations that may cross the boundary: functions of tensors and numbers only.

The lists hold base names. An overload of such a name is allowed unless it changes an argument.
Every other operation is rejected as `unsupported`. bincount and repeat_interleave are not listed,
because the size of their results depends on values and nothing here bounds it. The eager tier runs
them: its memory is bounded.
"""

from __future__ import annotations

import difflib

ELEMENTWISE = """
abs acos acosh add addcdiv addcmul angle asin asinh atan atan2 atanh bitwise_and bitwise_not
bitwise_or bitwise_xor ceil celu clamp clamp_max clamp_min copysign cos cosh deg2rad digamma div elu
eq erf erfc erfinv exp exp2 expm1 floor floor_divide fmax fmin fmod frac ge gelu glu gt hardshrink
hardsigmoid hardswish hardtanh heaviside huber_loss hypot isfinite isinf isnan isneginf isposinf
ldexp le leaky_relu lerp lgamma log log10 log1p log2 log_sigmoid_forward logaddexp logaddexp2
logical_and logical_not logical_or logical_xor logit lt masked_fill maximum minimum mish mse_loss
mul nan_to_num ne neg nextafter pow prelu rad2deg reciprocal relu relu6 remainder round rsqrt rsub
selu sgn sigmoid sign signbit silu sin sinc sinh smooth_l1_loss softplus softshrink special_entr
sqrt square sub tan tanh threshold trunc where xlogy _to_copy bucketize polygamma i0 special_i0e
special_i1 special_i1e special_erfcx special_log_ndtr special_ndtri special_xlog1py special_zeta
bitwise_left_shift bitwise_right_shift gcd lcm binary_cross_entropy
""".split()

REDUCTIONS = """
all amax amin aminmax any argmax argmin count_nonzero cummax cummin cumprod cumsum dist dot vdot
kthvalue linalg_vector_norm linalg_matrix_norm logcumsumexp logsumexp max mean median min mode
nanmedian nansum norm prod std std_mean sum trace var var_mean _softmax _log_softmax
native_layer_norm native_group_norm native_batch_norm _native_batch_norm_legit sort topk histc
searchsorted _cdist_forward _pdist_forward cross nanquantile quantile corrcoef cov renorm
""".split()

VIEWS = """
reshape permute expand slice select diagonal as_strided unfold cat stack slice_scatter
select_scatter diagonal_copy diagonal_scatter as_strided_scatter flip roll repeat tril triu
diag_embed index index_put gather scatter scatter_add scatter_reduce index_select index_add
index_copy index_fill take masked_select masked_scatter nonzero unique_dim _unique2 constant_pad_nd
rot90 channel_shuffle block_diag _unsafe_index _reshape_alias unsqueeze squeeze
alias detach split_with_sizes_copy
""".split()

FACTORIES = """
full arange linspace logspace eye tril_indices triu_indices full_like zeros ones empty_like
""".split()

LINEAR_ALGEBRA = """
mm mv bmm addmm addmv addbmm baddbmm addr outer linalg_cross _linalg_svd linalg_qr _linalg_eigh
linalg_inv_ex linalg_solve_triangular _linalg_solve_ex linalg_cholesky_ex linalg_lstsq linalg_pinv
linalg_lu_factor_ex linalg_ldl_factor_ex _linalg_det _linalg_slogdet linalg_eig linalg_matrix_exp
linalg_lu lu_unpack convolution avg_pool2d max_pool2d_with_indices _fft_r2c _fft_c2r _fft_c2c
_adaptive_avg_pool2d upsample_nearest1d upsample_linear1d complex real imag view_as_real
view_as_complex polar im2col col2im cholesky_solve geqrf ormqr
""".split()

BACKWARD = """
_softmax_backward_data _log_softmax_backward_data sigmoid_backward tanh_backward threshold_backward
mse_loss_backward smooth_l1_loss_backward huber_loss_backward gelu_backward silu_backward
softplus_backward elu_backward leaky_relu_backward hardtanh_backward logit_backward
native_layer_norm_backward select_backward slice_backward value_selecting_reduction_backward
index_backward masked_select_backward
""".split()

RANDOM = """
rand randn rand_like randn_like randint randint_like bernoulli normal normal_functional
native_dropout uniform exponential multinomial randperm poisson log_normal cauchy geometric
""".split()

ALLOWED = frozenset(
    [*ELEMENTWISE, *REDUCTIONS, *VIEWS, *FACTORIES, *LINEAR_ALGEBRA, *BACKWARD, *RANDOM]
)


def is_allowed(op: str) -> bool:
    """Tells whether an op may be a node: "input", "const", "item" or an allowed overload."""
    words = op.split(".")
    known = len(words) == 3 and words[0] == "aten" and words[1] in ALLOWED
    return known or op in ("input", "const", "item")


def unsupported(op: str) -> str:
    """The text that rejects an op: its name, and the nearest names that are allowed."""
    name = op.split(".")[1] if op.count(".") == 2 else op
    near = difflib.get_close_matches(name.strip("_"), ALLOWED, 3, 0.6)
    hint = f"; the nearest that are: {', '.join(near)}" if near else ""
    return f"{op[:80]} is not supported on tensors of the weights' size{hint}"
