"""Lowering against float64 replay: program snippets in many styles on many shapes.

A snippet sees the task vectors a, b, c, the list ws and their stack s. Its last statement is the
update. It is traced in the sandbox and lowered. What the kernel graph means in float64 is compared
with ATen on whole tensors in float64, relative to the update. Nothing may be guessed from sizes, so
3 x 3 tensors of three experts, single rows and 1-D tensors are among the shapes.
"""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from selfdev_engine.engine.errors import Rejection
from selfdev_engine.engine.lower import lower, supported_ops
from selfdev_engine.engine.lower.value import NotFusable
from selfdev_engine.engine.plans.answers import answer_question
from selfdev_engine.engine.program import extract
from selfdev_engine.engine.trace.replay import replay, replay_flat
from selfdev_engine.engine.trace.settings import TraceSettings
from selfdev_engine.engine.trace.tracer import Tracer
from selfdev_engine.kernels.backends import get_backend
from selfdev_engine.kernels.compiler.passes import canonical
from selfdev_engine.kernels.reference import evaluate
from selfdev_engine.kernels.tensors import TensorSet

NAMES = ("x", "y", "z")
SHAPES = [(24, 40), (3, 3), (1, 17), (50,)]
# Shares of the update's norm. Constants are float32 on one side; HALF is for snippets in which a
# value is rounded to float32 on the way.
TOLERANCE, HALF = 1e-7, 1e-6

SNIPPETS = """
(a + b) / 2 - 0.3 * c
torch.sign(s).sum(0).sign() * s.abs().mean(0)
F.cosine_similarity(a.flatten(), b.flatten(), dim=0) * a + b
torch.logical_and(a, b).float() * c
torch.logical_or(a, b).float() * c
(torch.logical_and(a * 3, b).float().sum() / a.numel()) * c
torch.logical_xor(a > 0, b > 0).to(a.dtype) * c
((a > 0) | (b > 0)).float() * c
(~(a > 0)).float() * c
((a > 0).int() + (b > 0).int() & 1).float() * c
((a > 0).int() + (b > 0).int() | 4).float() * c
((a > 0).long() ^ (b > 0).long()).float() * c
(~((a > 0).int())).float() * c
((a > 0).int() + 5) // 2 * c
((a * 10).int() // 3).float() * c
((a * 10).int() % 3).float() * c
torch.div(a, 0.1, rounding_mode='floor') * 0.1
torch.div(a, 0.1, rounding_mode='trunc') * 0.1
torch.floor_divide(a, 0.2)
torch.sign(a / (b * 0)) + c
torch.sign((a - a) / (b - b)) + c
torch.where(torch.isnan((a - a) / (b - b)), c, a)
torch.nan_to_num((a - a) / (b - b), nan=0.5) + c
torch.nan_to_num(a / (b - b)).clamp(-1, 1) + c
torch.clamp(a, max=0.1) + torch.clamp(b, min=torch.zeros_like(b))
a.clamp(min=b, max=c)
a.clamp_min(0.1).clamp_max(0.3)
F.hardtanh(a, -0.2, 0.3)
F.leaky_relu(a, 0.1) + F.elu(b) + F.softplus(c)
F.gelu(a) + F.gelu(b, approximate='tanh') + F.silu(c)
F.threshold(a, 0.1, -1.0)
F.softshrink(a, 0.1) + F.hardshrink(b, 0.2)
a.pow(2) + b.pow(3) + c.abs().pow(0.5)
a.abs().pow(1.7) + b.pow(-2) * 1e-4 + c ** 5
2 ** a + torch.pow(b.abs(), c)
torch.lerp(a, b, 0.7) + torch.lerp(a, c, torch.sigmoid(b))
torch.addcmul(a, b, c, value=0.3) + torch.addcdiv(a, b, c.abs() + 1, value=2)
torch.hypot(a, b) + torch.atan2(a, b) + torch.fmod(a, 0.3) + torch.remainder(b, 0.3)
torch.heaviside(a, b) + torch.copysign(a, b) + torch.logaddexp(a, b)
torch.fmax(a, b) + torch.fmin(b, c) + torch.maximum(a, c)
torch.frac(a) + torch.trunc(b * 3) + torch.round(c * 3)
torch.round(a, decimals=1)
torch.sinh(a) + torch.cosh(b) + torch.tanh(c) + torch.tan(a) + torch.asinh(b)
torch.log1p(a.abs()) + torch.expm1(b) + torch.log2(c.abs()) + torch.log10(a.abs()) + torch.exp2(b)
torch.reciprocal(a.abs() + 1) + torch.rsqrt(b.abs() + 1) + torch.square(c)
torch.xlogy(a, b.abs())
a.half().float() + b.bfloat16().float() * 0.3
(a.half() * b.half() + c.half()).float()
(a.bfloat16().sum() * b.bfloat16()).float()
(a.half() > 0.1).float() * b
(a.bfloat16() > 0.3).float() * b + (a.bfloat16() == 0.3).float()
a.double() * 0.3 + b.double().mean()
a.int().float() + b.long().float() + (c * 5).short().float()
(a * 3).to(torch.uint8).float() * b.abs()
(a > b).sum().float() / a.numel() * c
(a > b).float().mean() * c + (a > b).any().float() + (a > b).all().float()
a * a.norm() / (b.norm(p=1) + 1) + c / c.norm(p=float('inf'))
a / a.norm(p=3) + b / b.norm(p=0.5) + c / c.norm(p=float('-inf')).clamp_min(1e-3)
a * torch.linalg.norm(b) + torch.linalg.vector_norm(c, ord=0) * 1e-3
a / a.norm(dim=-1, keepdim=True) + b / b.norm(dim=0, keepdim=True)
a * s.var() + b * s.std() + c * s.var(unbiased=False)
s.var(0) + s.std(0) + s.std(0, unbiased=False)
a * a.var(dim=-1, keepdim=True) + b * b.std(0, keepdim=True)
(a - a.mean()) / a.std() * b.std() + b.mean()
(a - a.mean(-1, keepdim=True)) / (a.std(-1, keepdim=True) + 1e-6)
v, m = torch.var_mean(s, dim=0); m / (v + 1)
v, m = torch.var_mean(a); (a - m) / (v + 1e-3).sqrt()
s.median(0).values + s.median(0)[0] * 0.5
a.median() * b + c.abs().median() * a
s.kthvalue(2, dim=0).values
a * a.abs().flatten().kthvalue(max(1, a.numel() // 3)).values
(a.abs() > a.abs().flatten().kthvalue(max(1, a.numel() // 3)).values).float() * a
s.sort(0).values[1] + s.sort(0, descending=True).values[0]
v, i = s.sort(0); torch.gather(s, 0, i).sum(0) * 0.1 + v[0]
v, i = s.abs().max(0); s.gather(0, i.unsqueeze(0)).squeeze(0)
i = s.abs().argmax(0); s.gather(0, i[None])[0]
i = s.abs().argmin(0, keepdim=True); torch.take_along_dim(s, i, 0)[0]
s.topk(2, dim=0).values.mean(0)
s.abs().topk(2, dim=0).indices.float().mean(0) * a
s.max(0).values - s.min(0).values
s.amax(0) + s.amin(0) + a.amax() * b
s.cumsum(0)[1] + s.cumsum(0)[-1] * 0.1
s.prod(0) + s.cumprod(0)[1]
s.softmax(0).mul(s).sum(0)
F.softmax(a, dim=-1) * b
F.softmax(a.flatten(), 0).view_as(a) * b
F.log_softmax(s, 0).sum(0)
torch.logsumexp(s, 0)
torch.logsumexp(a.flatten(), 0) * b
w = torch.softmax(torch.stack([x.norm() for x in ws]), 0); sum(w[i] * ws[i] for i in range(3))
w = torch.tensor([x.norm() for x in ws]); w = w / w.sum(); (w.view(-1, *[1] * a.dim()) * s).sum(0)
w = torch.tensor([0.5, 0.3, 0.2]); torch.einsum('k...,k->...', s, w)
w = torch.tensor([0.5, 0.3, 0.2]); torch.tensordot(w, s, dims=1)
w = torch.tensor([0.5, 0.3, 0.2]); (s * w.reshape(3, *[1] * a.dim())).sum(0)
w = torch.tensor([0.5, 0.3, 0.2]); (s.movedim(0, -1) * w).sum(-1)
w = torch.tensor([0.5, 0.3, 0.2]); (torch.stack(ws, -1) @ w)
w = torch.tensor([0.5, 0.3, 0.2]); s * w
w = torch.tensor([0.5, 0.3, 0.2]); a * w
w = torch.tensor([0.5, 0.3, 0.2]); a * w + w.sum() * b
w = torch.arange(a.shape[-1], dtype=torch.float32); a * w
a * torch.linspace(0, 1, a.shape[-1])
f = s.flatten(1); (f @ f.t()).mean() * a
f = s.flatten(1); g = f @ f.T; w = g.sum(1) / g.sum(); (w[:, None] * f).sum(0).view_as(a)
f = s.reshape(3, -1); g = F.normalize(f, dim=1); (g @ g.t()).diagonal().sum() * a
torch.dot(a.flatten(), b.flatten()) / torch.dot(b.flatten(), b.flatten()) * b
a - (a * b).sum() / (b * b).sum() * b
torch.einsum('...i,...i->...', a, b).unsqueeze(-1) * c
torch.einsum('ij,ij->', a, b) * c
torch.einsum('ij,ij->i', a, b)[:, None] * c
a @ b.t() @ c
a * (b @ torch.ones(b.shape[-1]))[..., None]
F.normalize(a, dim=-1) + F.normalize(b.flatten(), dim=0).view_as(b)
F.normalize(a, dim=0) + F.layer_norm(b, b.shape[-1:])
F.layer_norm(a, a.shape)
F.mse_loss(a, b) * c + F.l1_loss(a, b) * b + F.smooth_l1_loss(a, c) * a
torch.dist(a, b) * c + torch.dist(a, c, p=1) * 0.01
a.mean(0) + b
a.mean(-1, keepdim=True) + b.mean(0, keepdim=True) + c
a.sum(0, keepdim=True).expand_as(a) * 0.1 + b
a.mean(0).expand(a.shape) * b
a.mean(0)[None].repeat(a.shape[0], *[1] * (a.dim() - 1)) * b
a.t().contiguous().t() + b
a.t().mean(0, keepdim=True).t() * b
a + a.t()
(a * b.t()).sum() * c
x = a.mean(0).unsqueeze(1).expand(a.shape[-1], a.shape[0]); x.sum(1) + b
x = a.mean(0).unsqueeze(1).expand(a.shape[-1], a.shape[0]); x.t() * b
x = a.mean(0).unsqueeze(0).expand(a.shape[0], a.shape[-1]); x.sum(0) * b
x = a.mean(-1).unsqueeze(1).expand(a.shape[0], a.shape[-1]); x.sum(0) * b
x = a.mean(-1).unsqueeze(1).expand(a.shape[0], a.shape[-1]); x.mean() * b + x.std() * a
x = torch.full_like(a, 2.0); x.sum() * b + x.sum(-1, keepdim=True) * c
x = torch.ones(a.shape[-1]); x.sum() * b
x = torch.ones(a.shape[0], 1); x.sum() * b
x = torch.ones(3, a.shape[-1]); x.sum() * b
x = torch.zeros(3); x[1] = 2.0; x.sum() * b
m = a.mean(-1); m.std() * b + m.max() * c
m = a.mean(0); m.median() * b
m = a.abs().mean(-1, keepdim=True); (m > m.median()).float() * b
m = a.abs().sum(0, keepdim=True); torch.where(m > m.mean(), a, b)
x = a.clone(); x[x.abs() < 0.3] = 0; x
x = a.clone(); x[x.abs() < 0.3] *= 0.5; x
x = a.clone(); m = b > 0; x[m] = b[m]; x
a[a > 0].mean() * b
a[a > 0].std() * b + a[b > 0].sum() * c
a[a.abs() > 0.1].abs().max() * b
x = a.clone(); x[::2] *= 2; x
x = a.clone(); x[0] = 0; x
x = a.clone(); x[..., 0] = b[..., 0]; x
x = a.clone(); x[..., 1:] += b[..., 1:]; x
x = a.clone(); x[..., 1:] += b[..., :-1]; x
x = a.clone(); x[: x.shape[0] // 2] = b[: x.shape[0] // 2] * 2; x
x = a.clone().flatten(); n = x.numel() // 2; x[:n] = b.flatten()[:n]; x[n:] += c.flatten()[n:]; x.view_as(a)
n = a.shape[0] // 2; torch.cat([a[:n] * 2, b[n:]], 0)
n = a.shape[-1] // 2; torch.cat([a[..., :n], b[..., n:]], -1)
torch.cat([x.flatten() for x in ws]).std() * a
torch.cat([x.unsqueeze(0) for x in ws], 0).mean(0)
torch.cat(ws, 0).mean() * a
torch.cat(ws, 0).chunk(3, 0)[1] + a
a[:1] * b
a[0] * b
a[..., :1] + b
a[: a.shape[0] // 2].mean() * b + a[a.shape[0] // 2 :].std() * c
a.flatten()[: a.numel() // 2].norm() * b
a.flatten()[::2].mean() * b + a.flatten()[1::2].abs().max() * c
a.view(-1)[0] * b
(a.abs() > torch.quantile(a.abs(), 0.7)).float() * b
torch.quantile(s, 0.5, dim=0)
torch.quantile(a.flatten(), torch.tensor([0.1, 0.9])).sum() * b
torch.quantile(a, 0.5, dim=-1, keepdim=True) * b
(a.abs() >= a.abs().flatten().topk(max(1, a.numel() // 5)).values[-1]).float() * b
(a.abs() >= a.abs().flatten().topk(max(1, a.numel() // 5)).values.min()).float() * b
(a.abs() >= a.abs().flatten().sort().values[a.numel() // 2]).float() * b
k = max(1, a.shape[-1] // 3); t = a.abs().topk(k, dim=-1).values[..., -1:]; (a.abs() >= t).float() * b
k = max(1, a.shape[-1] // 3); t = a.abs().kthvalue(k, dim=-1, keepdim=True).values; (a.abs() > t).float() * b
a.flatten().sort().values.view_as(a)
a.median(-1, keepdim=True).values * b
a.median(0).values * b
f = s.flatten(1); t = f.abs().median(1).values; sum(t[i] * ws[i] for i in range(3))
f = s.flatten(1); t = f.abs().kthvalue(max(1, f.shape[1] // 2), 1, keepdim=True).values; (f * (f.abs() > t)).sum(0).view_as(a)
s.flip(0)[0] + a.flip(0) * 0
s.flip(0)[0]
s.roll(1, 0)[0]
s.tril() .sum(0)
s[torch.tensor([2, 0])].mean(0)
s[[0, 2]].sum(0)
s[1:].mean(0) + s[:1].sum(0)
s.index_select(0, torch.tensor([1, 2])).sum(0)
s.unbind(0)[2] + s.split(1)[0][0]
s.transpose(0, 1).mean(1)
s.permute(*range(1, s.dim()), 0).mean(-1)
s.reshape(3, -1).mean(0).reshape(a.shape)
s.reshape(-1).mean() * a
s.view(3, -1).norm(dim=1).max() * a
(s - s.mean(0, keepdim=True)).abs().sum(0)
(s.sign() == s.sum(0).sign()).float().mul(s).sum(0)
m = (s.sign() == s.sum(0, keepdim=True).sign()); (s * m).sum(0) / m.sum(0).clamp(min=1)
n = s.flatten(1).norm(dim=1); s[n.argmax()]
n = s.flatten(1).norm(dim=1); s[int(n.argmax())] * 0.5 + s[int(n.argmin())] * 0.1
n = s.flatten(1).norm(dim=1); o = n.argsort(descending=True); s[o[0]] * 0.5 + s[o[1]] * 0.3
n = s.flatten(1).norm(dim=1); (s * (n / n.sum()).view(-1, *[1] * a.dim())).sum(0)
n = s.flatten(1).norm(dim=1); (s / n.reshape((3,) + (1,) * a.dim())).mean(0) * n.mean()
s.count_nonzero(0).float() * a + a.count_nonzero() * 0.01
s.any(0).float() * a + (s > 0).all(0).float() * b
s.isfinite().all().float() * a
torch.zeros_like(a) + 3.0 * b
torch.rand_like(a) * a + torch.randn(a.shape) * b
torch.bernoulli(torch.full_like(a, 0.5)) * a
F.dropout(a, 0.3) + b
m = torch.rand(a.shape) < 0.5; torch.where(m, a, b)
x = torch.eye(3)[0]; sum(x[i] * ws[i] for i in range(3))
x = torch.outer(a.flatten()[:2], b.flatten()[:2]); x.sum() * a
x = a.unsqueeze(0) * b.unsqueeze(1); x.sum() * c
torch.diagonal(a).sum() * b
torch.trace(a) * b
torch.tril(a) + b
a.sum(dim=(0,)) + b
a.mean(dim=tuple(range(a.dim()))) * b
torch.stack([a, b], 1).sum(1)
torch.stack([a, b], -1).flatten(-2).sum() * c
torch.stack([a, b], 0).reshape(2 * a.shape[0], *a.shape[1:]).mean(0, keepdim=True) * c
x = s.expand(2, *s.shape); x.mean((0, 1))
x = a.unsqueeze(-1).expand(*a.shape, 3); x.sum(-1) + (x * torch.stack(ws, -1)).sum(-1)
x = a.unsqueeze(-1).expand(*a.shape, a.shape[-1]); x.mean(-1) + b
x = a.unsqueeze(0).repeat(3, *[1] * a.dim()); (x * s).sum(0)
x = a.repeat_interleave(2, 0); x.mean() * b
x = (a * 100).long(); (x % 2 == 0).float() * b
x = torch.stack([w.abs().mean() for w in ws]); x = x / x.sum(); x.max() * a + x.var() * b + x.median() * c
x = torch.stack([w.norm() for w in ws]); v, i = x.sort(); v[0] * a + v[2] * b + i[0] * c
x = torch.stack([w.norm() for w in ws]); v, i = x.topk(2); v.sum() * a + i.float().sum() * b
x = torch.cov(s.flatten(1)); x.sum() * a
x = torch.corrcoef(s.flatten(1)); x[0, 1] * a + x[1, 2] * b
torch.minimum(a, b).maximum(c)
torch.where(a > 0, 1.0, b)
torch.where(a > 0, a, torch.tensor(0.0))
torch.masked_fill(a, b > 0, 0.25)
a.masked_fill(b.abs() > b.abs().mean(), float('inf')).clamp(max=1.0)
torch.histc(a, 10).sum() * b
torch.unique(a.sign()).numel() * b
torch.bucketize(a, torch.tensor([-0.5, 0.0, 0.5])).float() * b
torch.nanmean(a) * b + torch.nansum(a) * c * 0.01
torch.nanmedian(a) * b
torch.std_mean(a, dim=-1, keepdim=True)[0] * b
torch.aminmax(a)[0] * b
a.argmax().float() * 0.001 * b
a.logical_not().float() + b
torch.special.expit(a) + torch.special.erf(b)
a.relu_().add_(b).mul_(0.5)
x = a.clone(); x.sub_(b, alpha=0.5).div_(2).clamp_(-0.5, 0.5); x
torch.rsub(a, b, alpha=2) + torch.sub(a, b, alpha=3) + torch.add(a, c, alpha=-0.5)
1 - a + 3 - b * 2
a - 1 if a.mean() > 0 else b
float(a.mean()) * b + a.max().item() * c
x = (a * 0) / (b * 0); torch.where(torch.stack([a, x, b]).max(0).values.isnan(), c, a)
x = torch.where(a > 0, a / (a * 0) * 0, b); v = torch.stack([a, x, b]).sort(0).values; torch.nan_to_num(v[0] + v[1] * 2, nan=5.0) * c
x = torch.where(a > 0, a / (a * 0) * 0, b); v = torch.stack([a, x, b]).sort(0, descending=True).indices; v[0] * a + v[1] * b
x = torch.where(a > 0, a / (a * 0) * 0, b); v = torch.stack([a, x, b]); v.argmax(0) * a + v.argmin(0) * b
x = torch.where(a > 0, a / (a * 0) * 0, b); v = torch.stack([a, x, b]); torch.nan_to_num(v.median(0).values, nan=2.0) * b
x = torch.where(a > 0, a / (a * 0) * 0, b); torch.nan_to_num(x.median(), nan=2.0) * b
x = torch.where(a > 0, a / (a * 0) * 0, b); torch.nan_to_num(x.flatten().kthvalue(2).values, nan=2.0) * b
((a > 0).to(torch.uint8) - 1).float() * b
((a > 0).byte() + (b > 0).byte()).float() * c
(s > 0).byte().sum(0).float() * c
k = max(1, a.numel() // 5); a.abs().flatten().topk(k).values.mean() * b + a.flatten().topk(k, largest=False).values.sum() * c
k = max(1, a.shape[-1] // 3); a.abs().topk(k, dim=-1).values.mean(-1, keepdim=True) * b
a.abs().flatten().sort(descending=True).values[: max(1, a.numel() // 4)].mean() * b
a.flatten().sort().values[-3:].sum() * b + a.flatten().sort().values[0] * c
x = (a.abs() * 3).round(); k = max(1, a.numel() // 2); x.flatten().topk(k).values.sum() * b
a.flatten().sort().values.mean() * b + a.sort(-1).values.sum() * c
a.sort(-1).values.sum(0, keepdim=True) * b
torch.quantile(a / (b.abs() + 1), 0.3) * c
torch.quantile(a, 0.25, dim=0, keepdim=True) * b
t = torch.quantile(a.abs().flatten().float(), 1 - 0.2); torch.where(a.abs() >= t, a, torch.zeros_like(a))
F.huber_loss(a, b) * c + F.mse_loss(a, b, reduction='sum') * a
s.flatten(1).t() @ torch.tensor([0.2, 0.3, 0.5]) @ torch.ones(a.numel()) * a
x = a.clone(); x[:1] = b[:1] * 2; x[1:2] += c[1:2]; x
x = a.clone(); x[-1] *= 2; x[..., -1] -= 1; x
a[1:-1].std() * b + a[..., ::3].abs().median() * c
n = a.shape[0] // 3; torch.cat([a[:n], b[n : 2 * n], c[2 * n :]], 0)
n = a.numel() // 2; torch.cat([a.flatten()[:n], b.flatten()[n:]]).view_as(a)
""".strip().splitlines()

# Snippet -> the op that is named as the reason. torch computes these on whole tensors.
NOT_FUSED = {
    "a @ b.t() @ c": "aten.mm.default",
    "torch.linalg.qr(a)[0] @ torch.linalg.qr(a)[1] + b": "aten.linalg_qr.default",
    "a.flatten().sort().values.view_as(a) + b": "aten.reshape.default",
    "a.flip(0) + b": "aten.flip.default",
    "a.roll(1, 0) + b": "aten.roll.default",
    "x = a.clone(); x[..., 1:] += b[..., :-1]; x": "aten.add.Tensor",
    "((a > 0).long() ^ (b > 0).long()).float() * c": "aten.bitwise_xor.Tensor",
    "((a > 0).int() & (b > 0).int()).float() * c": "aten.bitwise_and.Tensor",
    "((a > 0).byte() - (b > 0).byte()).float() * c": "aten.sub.Tensor",
    "a.sort(-1).values.sum(0, keepdim=True) * b": "aten.sum.dim_IntList",
    "(a.unsqueeze(0) * b.unsqueeze(1)).sum() * c": "aten.mul.Tensor",
    "a.cumsum(0) + b": "aten.cumsum.default",
}


@pytest.fixture(scope="module")
def tracer():
    torch.set_num_threads(1)
    with Tracer(TraceSettings(timeout_s=5.0)) as tracer:
        yield tracer


def program(snippet: str) -> str:
    *before, last = snippet.split("; ")
    lines = ["a, b, c = ws = list(d.values())", "s = torch.stack(ws)", *before, f"return {last}"]
    head = "import torch, math\nimport torch.nn.functional as F\ndef merge_models(d, device):\n"
    return head + "".join(f"    {line}\n" for line in lines)


def tensors_of(shape: tuple[int, ...]) -> TensorSet:
    draw = torch.Generator().manual_seed(1)
    common = torch.randn(shape, generator=draw)
    experts = {
        name: sigma * (0.6 * common + 0.8 * torch.randn(shape, generator=draw))
        for name, sigma in zip(NAMES, (0.5, 2.0, 1.0), strict=True)
    }
    return TensorSet("t", torch.zeros(shape), experts)


def traced(tracer: Tracer, snippet: str, tensors: TensorSet):
    """The trace, or None if the program itself does not run on this shape."""

    def by_torch(question):
        given = {n: t.reshape(question.shape) for n, t in tensors.experts.items()}
        return replay_flat(question, given)

    def answer(question):
        return answer_question(question, tensors, get_backend("reference"), {}, by_torch)

    shape = tuple(tensors.base.shape)
    result = tracer.trace(
        extract(program(snippet)), NAMES, shape, seed=0, tensor_name="t", answer=answer
    )
    return None if isinstance(result, Rejection) else result


def both(result, tensors: TensorSet) -> tuple[torch.Tensor, torch.Tensor]:
    """(what the lowered graph means, what replay computes), both flat in float64."""
    vectors = {n: t.double() for n, t in tensors.experts.items()}
    reshaped = {n: t.reshape(result.graph.shape) for n, t in vectors.items()}
    (wanted,) = replay(result.graph, reshaped, wide=True)
    shape = tensors.shape2d
    matrices = {n: t.reshape(shape) for n, t in vectors.items()}
    (found,) = evaluate(canonical(lower(result.graph)), matrices, shape)
    return found.expand(shape).flatten(), wanted.double().flatten()


def error(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """The error relative to the update's norm. It is infinite if NaN or Inf differ."""
    if not torch.equal(found.isnan(), wanted.isnan()):
        return float("inf")
    if not torch.equal(found.isinf(), wanted.isinf()):
        return float("inf")
    real = wanted.isfinite()
    return float((found - wanted)[real].norm() / wanted[real].norm().clamp_min(1e-30))


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_right_or_left_to_another_tier(tracer, snippet):
    tolerance = HALF if any(w in snippet for w in ("half", "float", "rand")) else TOLERANCE
    for shape in SHAPES:
        tensors = tensors_of(shape)
        if (result := traced(tracer, snippet, tensors)) is None:
            continue
        try:
            found, wanted = both(result, tensors)
        except NotFusable:
            continue
        assert error(found, wanted) <= tolerance, shape
        if wanted.isfinite().all() and wanted.norm() > 0:
            for cheat in (torch.zeros_like(wanted), 0.999 * wanted):
                assert error(cheat, wanted) > tolerance


def test_most_snippets_fuse(tracer):
    tensors, fused, total = tensors_of((24, 40)), 0, 0
    for snippet in SNIPPETS:
        if (result := traced(tracer, snippet, tensors)) is not None:
            total += 1
            try:
                lower(result.graph)
                fused += 1
            except NotFusable:
                pass
    assert fused / total > 0.8, f"{fused} of {total}"


@pytest.mark.parametrize("snippet", NOT_FUSED)
def test_what_does_not_fuse_is_named(tracer, snippet):
    result = traced(tracer, snippet, tensors_of((24, 40)))
    assert result is not None
    with pytest.raises(NotFusable) as caught:
        lower(result.graph)
    assert caught.value.op == NOT_FUSED[snippet]
    assert caught.value.why


def test_supported_ops_are_aten_names():
    ops = supported_ops()
    assert len(ops) == len(set(ops)) > 120
    assert all(hasattr(torch.ops.aten, op.split(".")[1]) for op in ops)


UNARY = ["{}.abs()", "{}.sign()", "-{}", "{}.clamp(-0.5, 1.0)", "{} * 0.7", "torch.tanh({})"]
UNARY += [
    "{} / ({}.norm() + 0.1)",
    "{} - {}.mean()",
    "{} - {}.mean(-1, keepdim=True)",
    "{}.square()",
]
UNARY += [
    "{} * ({}.abs() > {}.abs().median())",
    "torch.where({} > 0, {}, 0.1 * {})",
    "{}.flatten().view_as(a)",
]
UNARY += ["{} / {}.abs().amax(0, keepdim=True).clamp_min(0.1)", "torch.sigmoid({})"]
BINARY = ["{} + {}", "{} - {}", "{} * {}", "torch.maximum({}, {})", "torch.minimum({}, {})"]
BINARY += ["torch.where({} > {}, a, b)", "torch.lerp({}, {}, 0.3)", "torch.stack([{}, {}]).mean(0)"]
BINARY += ["torch.stack([{}, {}, c]).median(0).values", "torch.stack([{}, {}], -1).amax(-1)"]
BINARY += [
    "({} * {}).sum() * a",
    "torch.stack([{}, {}]).softmax(0)[0]",
    "torch.stack([{}, {}]).std(0)",
]


@st.composite
def chains(draw) -> str:
    """Random operations assigned to v0, v1, ... in turn. The last one is the update."""
    names, lines = ["a", "b", "c"], list[str]()
    for number in range(draw(st.integers(2, 7))):
        form = draw(st.sampled_from(UNARY + BINARY))
        if form in UNARY:
            text = form.replace("{}", draw(st.sampled_from(names)))
        else:
            text = form.format(draw(st.sampled_from(names)), draw(st.sampled_from(names)))
        lines.append(f"v{number} = {text}")
        names.append(f"v{number}")
    return "; ".join([*lines, names[-1]])


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(chains(), st.sampled_from([(24, 40), (6, 6), (3, 3), (31,)]))
def test_random_chains(tracer, snippet, shape):
    tensors = tensors_of(shape)
    result = traced(tracer, snippet, tensors)
    assert result is not None
    try:
        found, wanted = both(result, tensors)
    except NotFusable:
        assert shape != (24, 40)
        return
    assert wanted.norm() < 1e-6 or error(found, wanted) <= 1e-6
