"""From a graph to stages: how many, what each holds, and the names and slots of their values."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable

import pytest
import torch
from selfdev_engine.kernels import reference
from selfdev_engine.kernels.compiler import numbering, staging
from selfdev_engine.kernels.compiler.clock import OutOfTime, limited
from selfdev_engine.kernels.compiler.live import small_bytes
from selfdev_engine.kernels.compiler.passes import canonical, compile_graph, compile_values
from selfdev_engine.kernels.compiler.size import MAX_DEPTH, TooLarge
from selfdev_engine.kernels.compiler.staging import LONG, OWN, depths, stage_merge, stage_values
from selfdev_engine.kernels.execution.reference import ReferenceBackend
from selfdev_engine.kernels.ir import ELEMENTWISE, REDUCTIONS, Builder, KernelGraph, Node, Op, Space
from selfdev_engine.kernels.reference import evaluate
from selfdev_engine.kernels.stages import Apply, Host, KernelPlan, Stage, Sweep, structure
from selfdev_engine.kernels.tensors import TensorSet

ALL, ROW, COL, FULL = Space.SCALAR, Space.ROW, Space.COL, Space.FULL


def total(b: Builder, x: int, space: Space = ALL) -> int:
    return b.add(Op.REDUCE_SUM, x, space=space)


def norm(b: Builder, x: int) -> int:
    return b.add(Op.SQRT, total(b, b.add(Op.MUL, x, x)))


def chain(length: int) -> KernelGraph:
    """Each step divides by the sum of the last one's magnitudes: each needs a sweep of its own."""
    b = Builder()
    x = b.input("a")
    for _ in range(length):
        x = b.add(Op.DIV, x, total(b, b.add(Op.ABS, x)))
    return b.graph(x)


def scaled(factor: float = 0.3, shift: float = 0.0) -> KernelGraph:
    """factor a |b| / |c| + (a - shift) times the largest (b - shift) of each row."""
    b = Builder()
    x, y, z = (b.input(name) for name in "abc")
    ratio = b.add(Op.DIV, norm(b, y), norm(b, z))
    moved = b.add(Op.SUB, y, b.const(shift))
    top = b.add(Op.REDUCE_MAX, moved, space=ROW)
    first = b.add(Op.MUL, b.add(Op.MUL, b.const(factor), x), ratio)
    return b.graph(b.add(Op.ADD, first, b.add(Op.MUL, b.add(Op.SUB, x, b.const(shift)), top)))


def levels() -> KernelGraph:
    """Rows divided by their sums, then by the norm of all, then cut at a value of some rank."""
    b = Builder()
    x = b.input("a")
    by_row = b.add(Op.DIV, x, b.add(Op.ADD, total(b, b.add(Op.ABS, x), ROW), b.const(1.0)))
    by_all = b.add(Op.DIV, by_row, norm(b, by_row))
    cut = b.add(Op.KTH, b.add(Op.ABS, by_all), attrs=(5,), space=ALL)
    kept = b.add(Op.LT, b.add(Op.MUL, cut, b.const(0.5)), b.add(Op.ABS, by_all))
    return b.graph(b.add(Op.MUL, kept, by_all))


def places() -> KernelGraph:
    """Vectors without a weight in them: indices of rows, a range of columns."""
    b = Builder()
    fade = b.add(Op.EXP, b.add(Op.NEG, b.add(Op.INDEX, space=ROW)))
    first = b.add(Op.IN_RANGE, attrs=(0, 3, 1), space=COL)
    return b.graph(b.add(Op.MUL, b.add(Op.MUL, b.input("a"), fade), first))


def no_update() -> KernelGraph:
    b = Builder()
    return b.graph(b.const(0.0))


GRAPHS: dict[str, Callable[[], KernelGraph]] = {
    "an input": lambda: chain(0),
    "chain of 1": lambda: chain(1),
    "chain of 4": lambda: chain(4),
    "scaled": scaled,
    "shifted": lambda: scaled(0.7, 1e-3),
    "levels": levels,
    "places": places,
    "no update": no_update,
}
PLANS = [pytest.param(compile_graph(make()), id=name) for name, make in GRAPHS.items()]


def kinds(plan: KernelPlan) -> str:
    """S, H and A for its stages."""
    return "".join(type(stage).__name__[0] for stage in plan.stages)


def nodes_of(stages: Iterable[Stage]) -> list[Node]:
    return [node for stage in stages for node in stage.graph.nodes]


def slots_of(stage: Stage) -> tuple[int, ...]:
    return () if isinstance(stage, Apply) else stage.slots


# ---- depth ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", range(5))
def test_a_sweep_for_each_level_of_reductions(length):
    assert kinds(compile_graph(chain(length))) == "S" * length + "A"


def test_depths_count_sweeps_and_nothing_else():
    b = Builder()
    x = b.input("a")
    rows = total(b, x, ROW)
    of_rows = b.add(Op.REDUCE_MAX, rows, space=ALL)  # of a vector: the host does it
    rest = b.add(Op.SUB, x, of_rows)
    deep = b.add(Op.KTH, rest, attrs=(1,), space=COL)
    place = b.add(Op.INDEX, space=ROW)
    both = b.add(Op.ADD, b.add(Op.ADD, deep, rows), place)
    found = dict(enumerate(depths(b.graph(both))))
    wanted = {x: 0, rows: 1, of_rows: 1, rest: 1, deep: 2, place: 0, both: 2}
    assert {index: found[index] for index in wanted} == wanted


def test_reductions_of_one_depth_share_a_sweep():
    b = Builder()
    x, y = b.input("a"), b.input("b")
    largest = b.add(Op.REDUCE_MAX, y, space=COL)
    rank = b.add(Op.KTH, x, attrs=(4,), space=ALL)
    parts = [total(b, x), total(b, y, ROW), largest, rank]
    (sweep,) = compile_values(b.graph(*parts)).stages
    assert isinstance(sweep, Sweep)
    assert len(sweep.slots) == len(sweep.keys) == len(parts)


def test_what_both_levels_need_is_swept_at_the_first():
    b = Builder()
    x = b.input("a")
    first = total(b, x)
    second = total(b, b.add(Op.ABS, b.add(Op.SUB, x, first)))
    plan = compile_values(b.graph(b.add(Op.ADD, first, second)))
    assert kinds(plan) == "SSH"
    assert [len(stage.graph.outputs) for stage in plan.stages] == [1, 1, 1]


# ---- what a stage holds ---------------------------------------------------------------------------


@pytest.mark.parametrize("plan", PLANS)
def test_stages_hold_what_they_may(plan):
    assert isinstance(plan.stages[-1], Apply)
    for stage in plan.stages[:-1]:
        assert not isinstance(stage, Apply)
        assert len(stage.slots) == len(stage.graph.outputs)
    for stage in plan.stages:
        nodes = stage.graph.nodes
        assert Op.CONST not in {node.op for node in nodes}, "numbers are slots"
        reduced = {i for i, node in enumerate(nodes) if node.op in REDUCTIONS}
        if isinstance(stage, Sweep):
            assert reduced == set(stage.graph.outputs)
            assert all(nodes[nodes[i].args[0]].space is FULL for i in reduced)
        elif isinstance(stage, Host):
            assert FULL not in {node.space for node in nodes}
        else:
            assert not reduced
            assert len(stage.graph.outputs) == 1


@pytest.mark.parametrize("plan", PLANS)
def test_a_slot_is_filled_once_and_read_after(plan):
    known = set(range(len(plan.params)))
    for stage in plan.stages:
        read = {node.attrs[0] for node in nodes_of([stage]) if node.op is Op.PARAM}
        assert read <= known, "read before it is filled"
        assert len(set(slots_of(stage))) == len(slots_of(stage))
        assert not set(slots_of(stage)) & known, "filled again"
        known |= set(slots_of(stage))
    assert known == set(range(plan.num_slots))


@pytest.mark.parametrize("plan", PLANS)
def test_a_slot_has_the_space_of_its_value(plan):
    spaces = dict.fromkeys(range(len(plan.params)), ALL)
    for stage in plan.stages:
        for node in nodes_of([stage]):
            assert node.op is not Op.PARAM or node.space is spaces[node.attrs[0]]
        outputs = zip(slots_of(stage), stage.graph.outputs, strict=False)
        spaces |= {slot: stage.graph.nodes[output].space for slot, output in outputs}


@pytest.mark.parametrize("make", GRAPHS.values(), ids=GRAPHS)
def test_a_plan_computes_the_graph(make_tensors, update_error, make):
    tensors, graph = make_tensors((6, 9)), make()
    inputs = {name: tensors.vector(name, torch.float64) for name in "abc"}
    (wanted,) = evaluate(graph, inputs, (6, 9))
    found = ReferenceBackend().update(compile_graph(graph), tensors)
    assert update_error(found, wanted.expand(6, 9)) < 1e-6


def test_later_stages_do_not_recompute_what_is_known():
    """Once |b| / |c| is a slot, the last pass reads a and b and no more of c."""
    plan = compile_graph(scaled())
    assert kinds(plan) == "SHA"
    names = [{n.attrs[0] for n in nodes_of([s]) if n.op is Op.INPUT} for s in plan.stages]
    assert names == [{"b", "c"}, set(), {"a"}]
    assert {node.op for node in nodes_of([plan.stages[-1]])} <= ELEMENTWISE | {Op.INPUT, Op.PARAM}


# ---- host steps -----------------------------------------------------------------------------------


def test_a_host_step_gives_only_what_is_read_outside():
    """sqrt(s) / sqrt(t) is one slot: neither root has one."""
    host = compile_graph(scaled()).stages[1]
    assert isinstance(host, Host)
    ops = [node.op for node in host.graph.nodes]
    assert sorted(ops) == [Op.DIV, Op.PARAM, Op.PARAM, Op.SQRT, Op.SQRT]
    assert [host.graph.nodes[output].op for output in host.graph.outputs] == [Op.DIV]


def test_a_host_step_gives_what_a_deeper_one_reads():
    b = Builder()
    x = b.input("a")
    size = norm(b, x)
    deep = total(b, b.add(Op.ABS, b.add(Op.DIV, x, size)))
    plan = compile_values(b.graph(b.add(Op.MUL, b.add(Op.EXP, size), deep)))
    assert kinds(plan) == "SHSH"
    first, last = plan.stages[1], plan.stages[3]
    assert {first.graph.nodes[o].op for o in first.graph.outputs} == {Op.SQRT, Op.EXP}
    assert Op.EXP not in {node.op for node in last.graph.nodes}


def test_numbers_of_no_weight_come_before_the_first_sweep():
    plan = compile_graph(places())
    assert kinds(plan) == "HA"
    assert {n.op for n in nodes_of([plan.stages[0]])} == {Op.INDEX, Op.IN_RANGE, Op.NEG, Op.EXP}


def test_vectors_are_reduced_by_the_host():
    b = Builder()
    x = b.input("a")
    mean = total(b, total(b, x, ROW))
    plan = compile_graph(b.graph(b.add(Op.MUL, x, mean)))
    assert kinds(plan) == "SHA"
    assert [node.op for node in nodes_of([plan.stages[1]])] == [Op.PARAM, Op.REDUCE_SUM]


# ---- keys -----------------------------------------------------------------------------------------


def keys_of(graph: KernelGraph) -> set[str]:
    stages = stage_merge(canonical(graph)).stages
    return {key for stage in stages if isinstance(stage, Sweep) for key in stage.keys}


def test_equal_statistics_have_equal_keys_in_any_program():
    """|c| times a, alone and as one of three levels, under other numbers and other names of nodes."""
    b = Builder()
    (plain,) = keys_of(
        b.graph(b.add(Op.MUL, b.const(5.0), b.add(Op.MUL, b.input("a"), norm(b, b.input("c")))))
    )
    assert plain in keys_of(scaled(0.3)) & keys_of(scaled(0.4, 2e-3))
    b = Builder()
    (other,) = keys_of(b.graph(b.add(Op.MUL, b.input("a"), norm(b, b.input("b")))))
    assert other != plain


def test_a_key_names_the_expression_down_to_the_weights():
    """The same second level over other first levels: other keys, though the sweeps' graphs are equal."""

    def plan(op: Op) -> KernelPlan:
        b = Builder()
        x = b.input("a")
        first = b.add(op, x, space=ALL)
        return compile_values(b.graph(total(b, b.add(Op.ABS, b.add(Op.SUB, x, first)))))

    largest, smallest = plan(Op.REDUCE_MAX).stages[1], plan(Op.REDUCE_MIN).stages[1]
    assert isinstance(largest, Sweep) and isinstance(smallest, Sweep)
    assert largest.graph == smallest.graph
    assert largest.keys != smallest.keys


def test_space_rank_and_input_are_parts_of_a_key():
    def statistic(op: Op, name: str, space: Space, attrs: tuple[int, ...] = ()) -> str:
        b = Builder()
        (sweep,) = compile_values(
            b.graph(b.add(op, b.input(name), attrs=attrs, space=space))
        ).stages
        assert isinstance(sweep, Sweep)
        return sweep.keys[0]

    found = [
        statistic(Op.REDUCE_SUM, "a", ALL),
        statistic(Op.REDUCE_SUM, "a", ROW),
        statistic(Op.REDUCE_SUM, "b", ALL),
        statistic(Op.REDUCE_MAX, "a", ALL),
        statistic(Op.KTH, "a", ALL, (3,)),
        statistic(Op.KTH, "a", ALL, (4,)),
    ]
    assert len(set(found)) == len(found)
    assert statistic(Op.KTH, "a", ALL, (4,)) == found[-1]


def test_keys_of_a_programs_own_numbers_say_so():
    def key(number: float) -> str:
        b = Builder()
        x = b.add(Op.SUB, b.input("a"), b.const(number))
        (found,) = keys_of(b.graph(b.add(Op.MUL, b.input("b"), total(b, b.add(Op.ABS, x)))))
        return found

    assert key(0.1).endswith(OWN)
    assert key(0.1) == key(0.1) != key(0.2)
    assert not any(k.endswith(OWN) for k in keys_of(chain(3)))
    assert [k.endswith(OWN) for k in sorted(keys_of(levels()), key=len)] == [False, True, True]


# ---- plans of values ------------------------------------------------------------------------------


def test_a_plan_of_values_ends_without_an_apply():
    b = Builder()
    x = b.input("a")
    plan = compile_values(b.graph(norm(b, x), total(b, x, ROW)))
    assert kinds(plan) == "SH"
    assert len(plan.outputs) == 2
    sweep, host = plan.stages
    assert isinstance(sweep, Sweep) and isinstance(host, Host)
    assert plan.outputs[0] in host.slots
    assert plan.outputs[1] in sweep.slots


def test_values_may_be_constants_or_asked_for_twice():
    b = Builder()
    size = total(b, b.input("a"))
    plan = compile_values(b.graph(b.const(2.0), size, size))
    assert kinds(plan) == "S"
    assert plan.params == (2.0,)
    assert plan.outputs == (0, 1, 1)


def test_a_plan_of_values_has_none_of_the_weights_size():
    b = Builder()
    with pytest.raises(AssertionError, match="a FULL answer"):
        stage_values(b.graph(b.input("a")))


def test_one_program_has_one_update():
    b = Builder()
    with pytest.raises(AssertionError, match="one program, one update"):
        compile_graph(b.graph(b.input("a"), b.input("b")))


# ---- structure ------------------------------------------------------------------------------------


def test_other_constants_are_the_same_structure():
    one, other = compile_graph(scaled(0.3, 1e-3)), compile_graph(scaled(-0.9, 2e-3))
    assert structure(one) == structure(other)
    assert sorted(one.params) == [1e-3, 0.3]
    assert sorted(other.params) == [-0.9, 2e-3]
    assert one.num_slots == other.num_slots
    first, second = one.stages[0], other.stages[0]
    assert isinstance(first, Sweep) and isinstance(second, Sweep)
    assert first.slots == second.slots
    pairs = list(zip(first.keys, second.keys, strict=True))
    assert [x == y for x, y in pairs] == [not x.endswith(OWN) for x, _ in pairs]


def test_a_constant_that_simplifies_is_another_structure():
    assert structure(compile_graph(scaled(1.0, 1e-3))) != structure(
        compile_graph(scaled(0.3, 1e-3))
    )


def test_a_number_written_twice_is_one_slot():
    b = Builder()
    x, y = b.input("a"), b.input("b")
    half = [b.add(Op.MUL, v, b.const(0.5)) for v in (x, y)]
    assert compile_graph(b.graph(b.add(Op.ADD, *half))).params == (0.5,)


# ---- what it costs --------------------------------------------------------------------------------


def test_a_statistic_is_named_without_a_copy_of_what_it_rests_on(monkeypatch):
    """The keys of 400 reductions that rest on each other: each node is hashed once."""
    hashed = []
    digest = numbering.hashlib.sha256
    monkeypatch.setattr(numbering.hashlib, "sha256", lambda text: hashed.append(1) or digest(text))
    graph = chain(400)
    plan = stage_merge(graph)
    assert len(plan.stages) == 401
    assert len(hashed) == len(graph.nodes)


def test_a_plan_has_so_many_sweeps_and_no_more():
    assert kinds(stage_merge(chain(MAX_DEPTH), bounded=True)) == "S" * MAX_DEPTH + "A"
    with pytest.raises(TooLarge, match=f"{MAX_DEPTH + 1} reductions that rest on each other"):
        stage_merge(chain(MAX_DEPTH + 1), bounded=True)


def fanned(length: int, count: int) -> KernelGraph:
    """A long chain, and that many largest elements of its end, each with another factor."""
    b = Builder()
    x = b.input("a")
    for _ in range(length):
        x = b.add(Op.SIN, x)
    scaled = (b.add(Op.MUL, x, b.const(1.0 + i)) for i in range(count))
    return b.graph(*(b.add(Op.REDUCE_MAX, x, space=ALL) for x in scaled))


def test_the_nodes_of_all_stages_are_counted_before_they_are_made(monkeypatch):
    """A sweep counts once for each pass that its reductions need: each walks the chain again."""
    assert kinds(stage_values(fanned(1000, 100), bounded=True)) == "S"
    assert kinds(stage_values(fanned(12_000, 1000))) == "S"
    monkeypatch.setattr(staging, "subgraph", lambda *_: pytest.fail("it was made"))
    with pytest.raises(TooLarge, match="more than 200000 operations"):
        stage_values(fanned(12_000, 1000), bounded=True)


def test_keys_of_long_expressions_say_so():
    """They are in no other program, so nobody keeps them."""
    assert not any(k.endswith(LONG) for k in keys_of(chain(3)))
    assert any(k.endswith(LONG) for k in keys_of(chain(12)))


def test_planning_ends_when_its_time_is_over():
    with limited("too slow", cpu_s=0.0), pytest.raises(OutOfTime, match="too slow"):
        compile_graph(chain(3))


def sines(length: int, width: int = 1) -> KernelPlan:
    """The sum of as many chains of sines on the rows' sums as `width` says, each added at the end."""
    b = Builder()
    rows = total(b, b.input("a"), ROW)
    chains = [b.add(Op.MUL, rows, b.const(float(i))) for i in range(1, width + 1)]
    for _ in range(length):
        chains = [b.add(Op.SIN, x) for x in chains]
    whole = chains[0]
    for x in chains[1:]:
        whole = b.add(Op.ADD, whole, x)
    return compile_values(b.graph(total(b, whole)))


def test_a_host_step_keeps_no_value_that_nobody_reads_any_more(monkeypatch):
    (host,) = (stage for stage in sines(50).stages if isinstance(stage, Host))
    made, alive, value_of = [], [], reference.value_of

    def noted(*args) -> torch.Tensor:
        value = value_of(*args)
        made.append(weakref.ref(value))
        return value

    monkeypatch.setattr(reference, "value_of", noted)
    slots = [torch.ones(()), torch.ones(5, 1)]

    def between() -> None:
        alive.append(sum(one() is not None for one in made))

    (found,) = evaluate(host.graph, {}, (5, 3), slots, between=between)
    assert found.shape == () and len(made) > 50 and max(alive) <= 5


def test_a_clock_ends_a_host_step():
    tensors = TensorSet("t", torch.zeros(5, 3), {"a": torch.ones(5, 3)})
    with limited("the time is over", wall_s=0.0), pytest.raises(OutOfTime, match="is over"):
        ReferenceBackend().values(sines(50), tensors)


def test_the_memory_of_small_values_is_known_before():
    """A chain needs two of its vectors at once, and many chains need as many as they are."""
    short, long, wide = (small_bytes(sines(*how), (1000, 9)) for how in ((5,), (500,), (5, 100)))
    assert short == long < 5 * 8 * 1000
    assert 50 * 8 * 1000 < wide < 120 * 8 * 1000
