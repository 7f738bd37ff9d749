"""The exact ATen overloads that may cross the boundary: functions of tensors and numbers only.

A word without a dot is the overload `default`. The lists hold what traces contain: composites arrive
decomposed, views and fills are recorded as a few ops (ops.py), and numbers alone never make a node.
Every other overload is rejected as `unsupported`. So are bincount and repeat_interleave, because the
size of their results depends on values and nothing here bounds it: the eager tier runs them. No
overload here writes to an argument or returns memory that nobody has written to; `trust.py` has
rules for those that trust their arguments.
"""

from __future__ import annotations

import difflib

from ..errors import printable

ELEMENTWISE = """
abs acos acosh add.Tensor add.Scalar addcdiv addcmul angle asin asinh atan atan2 atanh
bitwise_and.Tensor bitwise_and.Scalar bitwise_and.Scalar_Tensor bitwise_not bitwise_or.Tensor
bitwise_or.Scalar bitwise_or.Scalar_Tensor bitwise_xor.Tensor bitwise_xor.Scalar
bitwise_xor.Scalar_Tensor ceil celu clamp clamp.Tensor clamp_max clamp_max.Tensor clamp_min
clamp_min.Tensor copysign.Tensor copysign.Scalar cos cosh deg2rad digamma div.Tensor div.Scalar
div.Tensor_mode div.Scalar_mode elu eq.Tensor eq.Scalar erf erfc erfinv exp exp2 expm1 floor
floor_divide floor_divide.Scalar fmax fmin fmod.Tensor fmod.Scalar frac ge.Tensor ge.Scalar gelu glu
gt.Tensor gt.Scalar hardshrink hardsigmoid hardswish hardtanh heaviside huber_loss hypot isinf isnan
isneginf isposinf ldexp.Tensor le.Tensor le.Scalar leaky_relu lerp.Scalar lerp.Tensor lgamma log
log10 log1p log2 log_sigmoid_forward logaddexp logaddexp2 logical_and logical_not logical_or
logical_xor logit lt.Tensor lt.Scalar masked_fill.Scalar masked_fill.Tensor maximum minimum mish
mse_loss mul.Tensor mul.Scalar nan_to_num ne.Tensor ne.Scalar neg nextafter pow.Tensor_Tensor
pow.Tensor_Scalar pow.Scalar rad2deg reciprocal relu remainder.Tensor remainder.Scalar
remainder.Scalar_Tensor round round.decimals rsqrt rsub.Tensor rsub.Scalar sgn sigmoid sign signbit
silu sin sinc sinh smooth_l1_loss softplus softshrink special_entr sqrt sub.Tensor sub.Scalar tan
tanh threshold trunc where.self xlogy.Tensor xlogy.Scalar_Other xlogy.Scalar_Self _to_copy
bucketize.Tensor bucketize.Scalar polygamma i0 special_i0e special_i1 special_i1e special_erfcx
special_log_ndtr special_ndtri special_xlog1py special_xlog1py.other_scalar
special_xlog1py.self_scalar special_zeta special_zeta.other_scalar special_zeta.self_scalar
bitwise_left_shift.Tensor bitwise_left_shift.Tensor_Scalar bitwise_left_shift.Scalar_Tensor
bitwise_right_shift.Tensor bitwise_right_shift.Tensor_Scalar bitwise_right_shift.Scalar_Tensor gcd
binary_cross_entropy
""".split()

REDUCTIONS = """
all all.dim all.dims amax amin aminmax any any.dim any.dims argmax argmin count_nonzero
count_nonzero.dim_IntList cummax cummin cumprod cumsum dist dot vdot kthvalue linalg_vector_norm
logcumsumexp logsumexp max max.dim mean mean.dim median median.dim min min.dim mode nanmedian
nanmedian.dim nansum norm.Scalar norm.ScalarOpt_dim norm.ScalarOpt_dim_dtype norm.ScalarOpt_dtype
prod prod.dim_int std.correction std_mean.correction sum.dim_IntList sum trace var.correction
var_mean.correction _softmax _log_softmax native_layer_norm native_group_norm native_batch_norm
_native_batch_norm_legit.no_stats sort sort.stable topk histc searchsorted.Tensor
searchsorted.Scalar _cdist_forward _pdist_forward renorm
""".split()

VIEWS = """
reshape permute expand slice.Tensor select.int diagonal as_strided unfold cat stack slice_scatter
select_scatter diagonal_copy diagonal_scatter as_strided_scatter flip roll repeat tril triu
diag_embed index.Tensor index_put gather scatter.value scatter.src scatter.reduce
scatter.value_reduce scatter_add scatter_reduce.two index_select index_add index_copy
index_fill.int_Tensor index_fill.int_Scalar take masked_select masked_scatter nonzero unique_dim
_unique2 constant_pad_nd rot90 channel_shuffle block_diag _unsafe_index.Tensor unsqueeze squeeze
squeeze.dim squeeze.dims alias detach split_with_sizes_copy
""".split()

FACTORIES = """
full arange arange.start arange.start_step linspace logspace eye eye.m tril_indices triu_indices
full_like zeros ones
""".split()

LINEAR_ALGEBRA = """
mm mv bmm addmm addmv addbmm baddbmm addr linalg_cross _linalg_svd linalg_qr _linalg_eigh
linalg_inv_ex linalg_solve_triangular _linalg_solve_ex linalg_cholesky_ex linalg_lstsq
linalg_pinv.atol_rtol_tensor linalg_lu_factor_ex linalg_ldl_factor_ex _linalg_det _linalg_slogdet
linalg_eig linalg_matrix_exp linalg_lu lu_unpack convolution avg_pool2d max_pool2d_with_indices
_fft_r2c _fft_c2r _fft_c2c _adaptive_avg_pool2d upsample_nearest1d upsample_linear1d complex
view_as_real view_as_complex polar im2col col2im cholesky_solve ormqr
""".split()

BACKWARD = """
_softmax_backward_data _log_softmax_backward_data sigmoid_backward tanh_backward threshold_backward
mse_loss_backward smooth_l1_loss_backward huber_loss_backward gelu_backward silu_backward
softplus_backward elu_backward leaky_relu_backward hardtanh_backward logit_backward
native_layer_norm_backward select_backward slice_backward
""".split()

RANDOM = """
rand rand.generator randn randn.generator rand_like rand_like.generator randn_like
randn_like.generator randint randint.generator randint.low randint.low_generator
randint_like randint_like.low_dtype randint_like.generator randint_like.low_generator_dtype
bernoulli bernoulli.p bernoulli.Tensor normal.Tensor_float normal.float_Tensor normal.Tensor_Tensor
normal.float_float normal_functional native_dropout uniform exponential multinomial randperm
randperm.generator poisson log_normal cauchy geometric
""".split()

WORDS = [*ELEMENTWISE, *REDUCTIONS, *VIEWS, *FACTORIES, *LINEAR_ALGEBRA, *BACKWARD, *RANDOM]
ALLOWED = frozenset(f"aten.{word if '.' in word else word + '.default'}" for word in WORDS)
NAMES = frozenset(word.split(".")[0] for word in WORDS)
DRAWS = frozenset(word.split(".")[0] for word in RANDOM)
LEAVES = ("input", "const", "item")


def is_allowed(op: str) -> bool:
    """Tells whether an op may be a node: "input", "const", "item" or an allowed overload."""
    return op in ALLOWED or op in LEAVES


def unsupported(op: str) -> str:
    """The text that rejects an op: its name, and the nearest names that are allowed."""
    name = op.split(".")[1] if op.count(".") == 2 else op
    near = difflib.get_close_matches(name.strip("_")[:80], NAMES, 3, 0.6)
    hint = f"; the nearest that are: {', '.join(near)}" if near else ""
    return f"{printable(op, 80)} is not supported on tensors of the weights' size{hint}"
