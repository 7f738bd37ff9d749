"""Calls that torch's kernels refuse, though its shape functions take them, are refused with torch's words."""

from __future__ import annotations

import pytest

START = (
    "import torch\n\n\ndef merge_models(model_dict, device):\n    a, b, c = model_dict.values()\n"
)
FAR = "without overflow"
REFUSED = {
    "a.clamp(max=3.5e38)": FAR,
    "a.half().clamp(max=70000).float()": FAR,
    "a + torch.full_like(a, 1000, dtype=torch.int8)": FAR,
    "a + torch.zeros_like(a, dtype=torch.uint8).fill_(300)": FAR,
    "a.masked_fill(a > 0, 1e39)": FAR,
    "a + a.cumsum(0, dtype=torch.bool)": "not implemented for 'Bool'",
    "torch.softmax(a, 0, dtype=torch.int32) + a": "not implemented for 'Int'",
}
TAKEN = [
    "a + torch.zeros_like(a, dtype=torch.uint8).fill_(3)",
    "a * a.half().clamp(max=7.0)",
    "a + torch.full_like(a, 1e39, dtype=torch.float64).clamp(max=1.0).float()",
    "a.half().clamp(max=7.0).float()",
]


@pytest.mark.parametrize("code", [*REFUSED, *TAKEN])
def test_a_number_that_a_dtype_does_not_hold_is_refused_where_torch_refuses_it(judge, code):
    found = judge.verdict(f"{START}    return {code}\n", (80, 80), scale=500.0)
    assert not found.faults, found
    says = REFUSED.get(code, "")
    assert (found.tier == "rejected", bool(found.eager_error)) == (bool(says), bool(says))
    assert says in found.reason and says in str(found.eager_error or says)


# What eager raises, a program catches; a trace that does not raise takes the other branch.
CAUGHT = [
    "x = a.half(); x[b > 0] = c[b > 0]",
    "x = (a * 9).int(); x[b > 0] = c[b > 0]",
    "x = a.clone(); x[a.sum(-1) > 0] = b.half()[a.sum(-1) > 0]",
    "x = a.clone(); x[[0, 1]] = b.half()[:2]",
    "torch.tensor([a.norm()], dtype=torch.int64)",
    "a.half() @ b.t()",
    "torch.einsum('e,eij->ij', torch.ones(3, dtype=torch.float64), torch.stack([a, b, c]))",
    "a.masked_scatter(b > 0, c.half())",
    "(a * 9).int() % 0",
    "torch.div((a * 9).int(), 0, rounding_mode='trunc')",
    "a << 1",
    "a & b",
    "x = a > 0; x.cumsum_(0)",
    "(a > 0).std()",
    "a[torch.ones(3, dtype=torch.bool)]",
]
PASSED = [
    "x = a.half(); x[b > 0] = c.sum()",
    "x = a.clone(); x[:2] = b.half()[:2]",
    "(a * 9).int() % 3",
    "(a > 0) & (b > 0)",
    "a.double() + b",
    "torch.tensor([a.norm().long(), 1.5], dtype=torch.int64)",
    "a[torch.ones(80, dtype=torch.bool)]",
]


@pytest.mark.parametrize("code", [*CAUGHT, *PASSED])
def test_what_eager_raises_is_raised_while_tracing(judge, code):
    tried = f"    try:\n        {code}\n        return a\n    except Exception:\n        return b\n"
    found = judge.verdict(START + tried, (80, 80))
    assert not found.faults and found.tier != "rejected", found
