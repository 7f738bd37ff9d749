"""The verifier refuses graphs that no honest child sends, and checks all budgets itself."""

from __future__ import annotations

import base64
from typing import Any

import pytest
import torch
from selfdev_engine.engine.errors import Rejected
from selfdev_engine.engine.trace import verify
from selfdev_engine.engine.trace.allowed import ALLOWED
from selfdev_engine.engine.trace.arguments import packed
from selfdev_engine.engine.trace.bounds import work_of
from selfdev_engine.engine.trace.replay import overload_of
from selfdev_engine.engine.trace.verify import GraphReader

NAMES, SHAPE = ("x", "y"), (24, 40)


def reader() -> GraphReader:
    reader = GraphReader(NAMES, SHAPE)
    reader.extend([["input", ["x"], {}, [24, 40], "float32"]])
    return reader


def prepared() -> GraphReader:
    """A reader of the input %0, a number %1, a spectrum %2, three dimensions %3, integers %4."""
    graph = reader()
    graph.extend(
        [
            ["aten.sum.default", [X], {}, None, None],
            ["aten._fft_r2c.default", [X, [1], 0, True], {}, None, None],
            ["aten.reshape.default", [X, [1, 24, 40]], {}, None, None],
            ["aten._to_copy.default", [X], {"dtype": {"t": "int64"}}, None, None],
        ]
    )
    return graph


def test_all_constants_of_a_trace_are_bounded():
    """The driver keeps them as Python numbers, for every tensor of a candidate."""
    most, graph = 1 << 18, reader()
    one = {"dtype": "int8", "shape": [1 << 16], "data": base64.b64encode(bytes(1 << 16)).decode()}
    node = ["const", [{"c": one}], {}, None, None]
    graph.extend([node] * (most >> 16))
    with pytest.raises(Rejected) as refused:
        graph.extend([node])
    assert refused.value.rejection.kind == "memory"


def test_all_results_of_a_trace_are_bounded():
    """The driver keeps a shape for each: one operation of a few kB may make 4,096 tensors."""
    sizes, graph = [0] * 4095 + [24], reader()
    node = ["aten.split_with_sizes_copy.default", [{"n": 0}, sizes, 0], {}, None, None]
    graph.extend([node] * 24)
    with pytest.raises(Rejected, match="more than 100000 results") as refused:
        graph.extend([node])
    assert refused.value.rejection.kind == "memory"


X, HUGE, F = {"n": 0}, 10**400, {"f": "0x1p-3"}
NUMBER = {"dtype": "float32", "shape": [1], "data": "AACAPw=="}
FORGED = {
    "an input with keywords": ["input", ["x"], {"x": 1}, None, None],
    "a constant beside an input": ["input", ["x"], {"x": {"c": NUMBER}}, None, None],
    "no tensor of unknown size": ["aten.masked_select.default", [], {}, None, None],
    "a product of nothing": ["aten.mul.Tensor", [X], {}, None, None],
    "an unknown input": ["input", ["z"], {}, None, None],
    "an input of another shape": ["input", ["x"], {}, [24, 41], "float32"],
    "a wrong shape": ["aten.neg.default", [X], {}, [1], "float32"],
    "a wrong dtype": ["aten.neg.default", [X], {}, [24, 40], "float64"],
    "a shape of text": ["aten.neg.default", [X], {}, "24,40", "float32"],
    "a later node": ["aten.neg.default", [{"n": 5}], {}, None, None],
    "a negative node": ["aten.neg.default", [{"n": -1}], {}, None, None],
    "a node by truth": ["aten.neg.default", [{"n": False}], {}, None, None],
    "a plain float": ["aten.mul.Scalar", [X, 0.5], {}, None, None],
    "a huge integer": ["aten.mul.Scalar", [X, HUGE], {}, None, None],
    "a huge dimension": ["aten.sum.dim_IntList", [X, [HUGE]], {}, None, None],
    "a huge size": ["aten.expand.default", [X, [2**62, 24, 40]], {}, None, None],
    "a negative size": ["aten.reshape.default", [X, [-5, -7]], {}, None, None],
    "too many arguments": ["aten.neg.default", [X] * 9, {}, None, None],
    "an unknown keyword": ["aten.neg.default", [X], {"nobody": 1}, None, None],
    "a device": ["aten.full.default", [[3], 1], {"device": "cuda"}, None, None],
    "pinned memory": ["aten.full.default", [[3], 1], {"pin_memory": True}, None, None],
    "a generator": ["aten.rand.default", [[99]], {"draw": 1, "generator": 1}, None, None],
    "a draw without a seed": ["aten.rand.default", [[99]], {}, None, None],
    "a seed of text": ["aten.rand.default", [[99]], {"draw": "1"}, None, None],
    "a negative seed": ["aten.rand.default", [[99]], {"draw": -1}, None, None],
    "a huge seed": ["aten.rand.default", [[99]], {"draw": HUGE}, None, None],
    "a seed where nothing is drawn": ["aten.neg.default", [X], {"draw": 1}, None, None],
    "an unknown tag": ["aten.neg.default", [{"z": 1}], {}, None, None],
    "two tags": ["aten.neg.default", [{"n": 0, "f": "0x1p0"}], {}, None, None],
    "a bad float": ["aten.mul.Scalar", [X, {"f": "import os"}], {}, None, None],
    "a bad dtype": ["aten._to_copy.default", [X], {"dtype": {"t": "qint8"}}, None, None],
    "a dtype by attribute": ["aten._to_copy.default", [X], {"dtype": {"t": "save"}}, None, None],
    "an item of one result": ["item", [X, 0], {}, None, None],
    "an item of a number": ["item", [0, 0], {}, None, None],
    "an empty item": ["item", [], {}, None, None],
    "a constant as an argument": ["aten.mul.Tensor", [X, {"c": NUMBER}], {}, None, None],
    "an empty constant": ["const", [], {}, None, None],
    "a constant that is none": ["const", [1], {}, None, None],
    "a short constant": ["const", [{"c": {**NUMBER, "shape": [2]}}], {}, None, None],
    "a long constant": ["const", [{"c": {**NUMBER, "shape": [2**40]}}], {}, None, None],
    "a constant of a huge shape": ["const", [{"c": {**NUMBER, "shape": [HUGE]}}], {}, None, None],
    "a constant whose strides overflow": [
        "const",
        [{"c": {**NUMBER, "shape": [0, *[2**40] * 3], "data": ""}}],
        {},
        None,
        None,
    ],
    "a constant of no base64": ["const", [{"c": {**NUMBER, "data": "!!"}}], {}, None, None],
    "a constant of a bad dtype": ["const", [{"c": {**NUMBER, "dtype": "object"}}], {}, None, None],
    "deep arguments": ["aten.neg.default", [[[[[[[[[[[1]]]]]]]]]]], {}, None, None],
    "many arguments": ["aten.cat.default", [[X] * 5000], {}, None, None],
    "a constant of many dimensions": [
        "const",
        [{"c": {**NUMBER, "shape": [1] * 9}}],
        {},
        None,
        None,
    ],
    "a tensor of many dimensions": [
        "aten.reshape.default",
        [X, [1] * 7 + [24, 40]],
        {},
        None,
        None,
    ],
    "many sizes": ["aten.reshape.default", [X, [1] * 300 + [24, 40]], {}, None, None],
    "a word that no op knows": ["aten.gelu.default", [X], {"approximate": "A" * 9999}, None, None],
    "a dimension by truth": ["aten.sum.dim_IntList", [X, [True]], {}, None, None],
    "a dtype as a number": ["aten.mul.Tensor", [X, {"t": "float32"}], {}, None, None],
    "text as a tensor": ["aten.mul.Tensor", [X, "x"], {}, None, None],
    "a list as a tensor": ["aten.mul.Tensor", [X, [X]], {}, None, None],
    "a size beyond the largest": ["aten.full.default", [[1 << 41], 1], {}, None, None],
    "pivots": ["aten.lu_unpack.default", [X, X], {}, None, None],
    "strides that reach outside": ["aten.as_strided.default", [X, [960], [2]], {}, None, None],
    "a negative offset": ["aten.as_strided.default", [X, [9], [1], -1], {}, None, None],
    "short weights": [
        "aten._native_batch_norm_legit.no_stats",
        [X, {"n": 0}, None, True, F, F],
        {},
        None,
        None,
    ],
    "statistics that are written": [
        "aten.native_batch_norm.default",
        [X, None, None, X, X, True, F, F],
        {},
        None,
        None,
    ],
    "short statistics": [
        "aten.native_layer_norm_backward.default",
        [X, X, [40], {"n": 1}, {"n": 1}, None, None, [True, False, False]],
        {},
        None,
        None,
    ],
    "no axes": ["aten._fft_r2c.default", [X, [], 0, True], {}, None, None],
    "an axis twice": ["aten._fft_r2c.default", [X, [0, 0], 0, True], {}, None, None],
    "a long spectrum": ["aten._fft_c2r.default", [{"n": 2}, [1], 0, 4000], {}, None, None],
    "a tiny scale": [
        "aten.upsample_nearest1d.default",
        [{"n": 3}, [80], {"f": "0x1p-1060"}],
        {},
        None,
        None,
    ],
    "a result of another shape": [
        "aten._log_softmax_backward_data.default",
        [X, {"n": 1}, 1, {"t": "float32"}],
        {},
        None,
        None,
    ],
    "a gradient of another type": [
        "aten._softmax_backward_data.default",
        [X, X, 1, {"t": "int8"}],
        {},
        None,
        None,
    ],
    "a threshold of several types": [
        "aten.threshold_backward.default",
        [{"n": 4}, X, F],
        {},
        None,
        None,
    ],
    "probabilities that do not fit": [
        "aten.bernoulli.Tensor",
        [X, {"n": 3}],
        {"draw": 1},
        None,
        None,
    ],
    "dropout of integers": [
        "aten.native_dropout.default",
        [{"n": 4}, F, True],
        {"draw": 1},
        None,
        None,
    ],
    "dropout beyond one": [
        "aten.native_dropout.default",
        [X, {"f": "0x1p1"}, True],
        {"draw": 1},
        None,
        None,
    ],
    "no groups": [
        "aten.native_group_norm.default",
        [{"n": 3}, None, None, 1, 24, 40, 0, F],
        {},
        None,
        None,
    ],
    "groups of another tensor": [
        "aten.native_group_norm.default",
        [{"n": 3}, None, None, 24, 1, 40, 1, F],
        {},
        None,
        None,
    ],
    "a loss of several shapes": [
        "aten.binary_cross_entropy.default",
        [X, {"n": 3}],
        {},
        None,
        None,
    ],
    "a gradient of another shape": [
        "aten.smooth_l1_loss_backward.default",
        [{"n": 3}, X, X, 1, F],
        {},
        None,
        None,
    ],
    "a division that traps": [
        "aten.div.Tensor_mode",
        [{"n": 4}, {"n": 4}],
        {"rounding_mode": "trunc"},
        None,
        None,
    ],
    "a triangle that wraps around": [
        "aten.tril_indices.default",
        [1 << 33, 1 << 33],
        {},
        None,
        None,
    ],
    "too few fields": ["aten.neg.default", [X]],
    "an op that is a number": [3, [X], {}, None, None],
    "arguments that are none": ["aten.neg.default", None, None, None, None],
    "keywords in a list": ["aten.neg.default", [X], [1], None, None],
    "no list": "aten.neg.default",
}


@pytest.mark.parametrize("node", FORGED.values(), ids=FORGED.keys())
def test_a_forged_node_is_a_violation(node: Any):
    with pytest.raises(Rejected) as fault:
        prepared().extend([node])
    assert fault.value.rejection.kind == "violation"
    assert len(fault.value.rejection.detail) <= 400


OTHER_OPS = """
aten.set_.source_Storage os.system aten prims.x.y aten.neg.nobody aten.mul.out aten.mul_.Tensor
aten.lcm.default aten.remainder.int aten.add.str aten.mul.left_t aten.add.t aten.sum.int aten.eq.Tensor_list
aten.add.overloads aten.add.__class__ aten.__class__.x aten.add.Tensor.x aten._reshape_alias.default
aten.empty_like.default aten.index_put_.default aten.mm.dtype input.x.y aten.empty.memory_format
""".split()


@pytest.mark.parametrize("op", [*OTHER_OPS])
def test_an_op_that_is_not_on_the_list_is_unsupported(op: str):
    with pytest.raises(Rejected) as fault:
        reader().extend([[op, [X], {}, None, None]])
    assert fault.value.rejection.kind == "unsupported"


def test_the_text_of_a_fault_is_short_and_harmless():
    for forged in (["\x1b[2J" * 999], ["B" * 7_000_000], [{"\ud800": "\x07"}]):
        with pytest.raises(Rejected) as fault:
            reader().graph(forged)
        detail = fault.value.rejection.detail
        assert len(detail) <= 400 and detail.isprintable()


def test_every_op_on_the_list_exists_and_writes_nothing():
    for op in ALLOWED:
        schema = overload_of(op)._schema
        assert not schema.is_mutable, op
        assert {str(r.real_type) for r in schema.returns} <= {"Tensor", "List[Tensor]"}, op


@pytest.mark.parametrize("outputs", [[1], [-1], [True], ["0"], [0.0], [None], [HUGE]])
def test_an_output_is_a_node(outputs: list[Any]):
    with pytest.raises(Rejected, match="output"):
        reader().graph(outputs)


def test_the_number_of_nodes_is_bounded():
    one = ["aten.mul.Scalar", [X, 2], {}, None, None]
    with pytest.raises(Rejected, match="too many"):
        reader().extend([one] * 20_000)


def test_a_node_of_unknown_size_is_not_used():
    graph = reader()
    graph.extend([["aten.nonzero.default", [X], {}, None, None]])
    with pytest.raises(Rejected, match="unknown size"):
        graph.extend([["aten.neg.default", [{"n": 1}], {}, None, None]])


@pytest.mark.parametrize(
    ("node", "shape"),
    [
        (["aten.nansum.default", [X, []], {}, None, None], ()),
        (["aten.nansum.default", [X, [], True], {}, None, None], (1, 1)),
        (["aten.nansum.default", [X, [0]], {}, None, None], (40,)),
    ],
)
def test_shapes_are_those_of_the_op_itself(node: list[Any], shape: tuple[int, ...]):
    graph = reader()
    graph.extend([node])
    assert graph.nodes[1].shape == shape
    assert overload_of(node[0])(torch.ones(SHAPE), *node[1][1:]).shape == shape


def test_batch_norm_in_use_makes_no_statistics():
    graph = reader()
    vector = ["aten.sum.dim_IntList", [X, [0]], {}, None, None]
    stats = {"n": 1}
    args = [X, None, None, stats, stats, False, F, F]
    graph.extend([vector, ["aten.native_batch_norm.default", args, {}, None, None]])
    assert [tuple(meta.shape) for meta in graph.metas[2]] == [SHAPE, (0,), (0,)]


def test_an_unsupported_op_names_the_nearest():
    with pytest.raises(Rejected, match=r"nearest that are: .*logaddexp"):
        reader().extend([["aten.logaddexp3.default", [X, X], {}, None, None]])


# ---- budgets


def test_a_forged_intermediate_is_bounded():
    with pytest.raises(Rejected) as fault:
        reader().extend([["aten.full.default", [[1 << 25], 1], {}, None, None]])
    assert fault.value.rejection.kind == "memory"


def test_forged_work_is_bounded():
    graph = GraphReader(NAMES, (4096, 4096))
    graph.extend([["input", ["x"], {}, None, None]])
    with pytest.raises(Rejected) as fault:
        graph.extend([["aten.mm.default", [{"n": i}, X], {}, None, None] for i in range(3700)])
    assert fault.value.rejection.kind == "timeout"


def test_the_time_of_verifying_is_bounded(monkeypatch):
    monkeypatch.setattr(verify, "MAX_VERIFY_CPU_S", 0.01)
    with pytest.raises(Rejected, match="to verify") as fault:
        reader().extend([["aten.cat.default", [[X] * 4000], {}, None, None]] * 9)
    assert fault.value.rejection.kind == "timeout"


def meta(*shape: int) -> torch.Tensor:
    return torch.empty(shape, device="meta")


@pytest.mark.parametrize(
    ("name", "inputs", "output", "least", "most"),
    [
        ("mul", [meta(30, 50), meta(30, 50)], meta(30, 50), 1500, 5000),
        ("mm", [meta(30, 50), meta(50, 70)], meta(30, 70), 2 * 30 * 50 * 70, 3 * 30 * 50 * 70),
        ("bmm", [meta(4, 30, 50), meta(4, 50, 70)], meta(4, 30, 70), 840_000, 1_000_000),
        ("addmm", [meta(70), meta(30, 50), meta(50, 70)], meta(30, 70), 210_000, 250_000),
        ("_linalg_svd", [meta(100, 40)], meta(40), 2 * 100 * 40 * 40, 60 * 100 * 40 * 40),
        ("sort", [meta(1024)], meta(1024), 10 * 1024, 40 * 1024),
        ("_cdist_forward", [meta(30, 8), meta(40, 8)], meta(30, 40), 9600, 30_000),
    ],
)
def test_the_estimate_is_near_the_count(name, inputs, output, least, most):
    assert least <= work_of(name, (), inputs, [output]) <= most


SORTED = [
    ["aten.gt.Scalar", [X, F], {}, None, None],
    ["aten.sort.default", [X], {}, None, None],
]


@pytest.mark.parametrize(
    "forged",
    [
        ["aten.index.Tensor", [{"n": 2}, [{"n": 1}]], {}, None, None],
        ["aten.masked_select.default", [{"n": 2}, {"n": 1}], {}, None, None],
        ["aten.neg.default", [{"n": 2}], {}, None, None],
        ["item", [{"n": 2}, 0], {"x": {"c": NUMBER}}, None, None],
        ["item", [{"n": 2}, 0], {"x": [1] * 100}, None, None],
        ["item", [{"n": 1}, 0], {}, None, None],
    ],
)
def test_several_results_are_no_tensor(forged):
    graph = reader()
    graph.extend(SORTED)
    with pytest.raises(Rejected, match="malformed graph"):
        graph.extend([forged])
    graph.extend([["item", [{"n": 2}, 0], {}, [24, 40], "float32"]])


def test_a_graph_s_arguments_are_plain_data():
    with pytest.raises(AssertionError, match="Tensor is no argument"):
        packed((1.0, torch.ones(())))
