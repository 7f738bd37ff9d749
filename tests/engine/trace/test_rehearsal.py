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
