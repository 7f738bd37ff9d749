"""Duplicates and linear equivalents, on real tensors and against least squares in float64."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from selfdev_engine.engine.errors import Rejection, UsageError
from selfdev_engine.engine.plans.cells import Cells
from selfdev_engine.engine.plans.plan import Plan
from selfdev_engine.engine.plans.planner import Planner
from selfdev_engine.engine.plans.survey import Survey, Surveyor
from selfdev_engine.engine.plans.updates import Updates
from selfdev_engine.engine.program import extract
from selfdev_engine.engine.records.candidate import BASE
from selfdev_engine.engine.records.store import Store
from selfdev_engine.engine.screening.prepare import Preparer
from selfdev_engine.engine.screening.twins import Twins
from selfdev_engine.engine.trace.settings import TraceSettings
from selfdev_engine.engine.trace.tracer import Tracer
from selfdev_engine.engine.weights.bank import Bank
from selfdev_engine.kernels.backends import get_backend

SHAPES = {"a.mlp.up_proj.weight": (33, 20), "b.mlp.down_proj.weight": (20, 33)}
BODY = "import torch\ndef merge_models(d, device):\n    a, b, c = d.values()\n    return {}\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    draw = torch.Generator().manual_seed(11)
    base = {n: 0.02 * torch.randn(s, generator=draw) for n, s in SHAPES.items()}
    models = {"base": base}
    for name, sigma in (("x", 1e-3), ("y", 4e-3), ("z", 2e-3)):
        models[name] = {
            n: t + sigma * torch.randn(t.shape, generator=draw) for n, t in base.items()
        }
    for name, tensors in models.items():
        (folder / name).mkdir()
        save_file(tensors, folder / name / "model.safetensors")
        (folder / name / "config.json").write_text('{"model_type": "none"}')
    return folder


@pytest.fixture(scope="module")
def plan_of(folder, tmp_path_factory):
    torch.set_num_threads(1)
    bank = Bank.open(str(folder / "base"), {n: str(folder / n) for n in "xyz"}, "mlp", hold=True)
    backend = get_backend("cpu")
    with Tracer(TraceSettings(timeout_s=5.0)) as tracer:
        planner = Planner(bank, tracer, backend, 0, Cells.of(bank.selection, tracer, None))
        updates = Updates(planner.cells, tmp_path_factory.mktemp("updates"), num_cores=1)

        def plan(expression: str) -> Plan:
            found = planner.plan(extract(BODY.format(expression)))
            assert isinstance(found, Plan), found
            found = updates.computed(found)
            assert isinstance(found, Plan), found
            return found

        plan.bank, plan.backend, plan.planner, plan.updates = bank, backend, planner, updates
        yield plan


@pytest.fixture
def surveyor(plan_of):
    return Surveyor(plan_of.bank, plan_of.backend)


@pytest.fixture(params=["recent", "stored"])
def twin(request, plan_of, surveyor, tmp_path):
    """Whom `other` duplicates where `known` is being scored, or was scored and is in the store."""

    def of(known: str, other: str) -> str | None:
        plan, mine = plan_of(known), plan_of(other)
        survey = surveyor.survey(plan)
        with Store.open(tmp_path / f"{len(list(tmp_path.iterdir()))}.db") as store:
            twins = Twins(store, surveyor, lambda name: plan)
            if request.param == "recent":
                twins.recent["known"] = survey
            else:
                store.add_candidates([{"id": "known", "source": known}])
                trace = (plan.tier, None, plan.fingerprint, 0, survey.norm, survey.sketch)
                store.add_trace("known", *trace)
                store.decide("known", status="scored")
            found = twins.same_plan(mine, "main") or twins.same_update(
                surveyor.survey(mine), "main"
            )
            return found and found.of

    return of


@pytest.mark.parametrize(
    "other",
    ["0.37 * a + 0.21 * b", "0.21 * b + 0.37 * a", "0.37 * (a + b) - 0.16 * b", "a * 0.37 + b * 0.21 + 1e-9 * c"],
)  # fmt: skip
def test_the_same_update_is_found_whatever_its_spelling(twin, other):
    assert twin("0.37 * a + 0.21 * b", other) == "known"


@pytest.mark.parametrize(
    "other",
    [
        "0.37 * a + 0.2101 * b",
        "0.37 * b + 0.21 * a",
        "-(0.37 * a + 0.21 * b)",
        # agrees on the first tensor (33 rows), not on the second (20 rows)
        "0.37 * a + 0.21 * b + (0 if a.shape[0] == 33 else 0.01) * c",
    ],
)
def test_another_update_is_not_taken_for_it(twin, other):
    assert twin("0.37 * a + 0.21 * b", other) is None


def test_a_sample_that_agrees_is_not_enough(twin, monkeypatch):
    """A sketch of nothing is like any other; the comparison over all tensors decides."""
    monkeypatch.setattr("selfdev_engine.engine.screening.twins.near", lambda sketch, survey: True)
    monkeypatch.setattr("selfdev_engine.engine.screening.twins.TOLERANCE", 2e-4)
    assert twin("a", "a if a.shape[0] == 33 else 1.0009 * a") is None
    assert twin("b", "1.0001 * b") == "known"


def test_what_changes_nothing_is_the_base(twin):
    assert twin("a", "torch.zeros_like(a)") == BASE


def test_a_survey_refuses_nan(surveyor, plan_of):
    found = surveyor.survey(plan_of("torch.log(a)"))
    assert isinstance(found, Rejection)
    assert found.kind == "nonfinite"
    assert any(name in found.detail for name in SHAPES)


def test_a_huge_update_is_not_taken_for_inf(surveyor, plan_of):
    """Its square overflows float32, the update does not."""
    survey = surveyor.survey(plan_of("1e25 * a"))
    assert survey.linear.coefficients[0] == pytest.approx(1e25, rel=1e-5)
    assert survey.linear.residual < 1e-4


@pytest.mark.parametrize(
    "expression",
    [
        "0.3 * a - 0.7 * c",
        "torch.maximum(a, b)",
        "a * a * 100 + 0.5 * b",
        "a.sign()",
        "torch.ones_like(a)",  # no FULL value in its graph
        "a * a.norm(dim=1, keepdim=True)",
        "torch.linalg.svd(a)[1].max() * b + torch.linalg.svd(b, full_matrices=False)[0].sum() * a",
    ],
)
def test_linear_equivalent_is_the_least_squares_fit(surveyor, plan_of, expression):
    found = surveyor.survey(plan_of(expression)).linear.to_json(("x", "y", "z"))
    vectors, updates = [], []
    for name in SHAPES:
        tensors = plan_of.bank.tensors(name)
        given = [e.float() - tensors.base.float() for e in tensors.experts.values()]
        scope = dict(zip("abc", given, strict=True)) | {"torch": torch}
        updates.append(eval(expression, scope).double().reshape(-1))
        vectors.append(torch.stack([g.double().reshape(-1) for g in given], 1))
    matrix, update = torch.cat(vectors), torch.cat(updates)
    wanted = torch.linalg.lstsq(matrix, update[:, None]).solution[:, 0]
    residual = float((update - matrix @ wanted).norm() / update.norm())
    assert list(found["coefficients"]) == ["x", "y", "z"]
    values = torch.tensor(list(found["coefficients"].values()), dtype=torch.float64)
    assert torch.allclose(values, wanted, rtol=1e-4, atol=1e-5 * float(wanted.abs().max()))
    assert found["residual"] == pytest.approx(residual, abs=1e-6)


def test_no_update_has_no_residual(surveyor, plan_of):
    found = surveyor.survey(plan_of("0 * a")).linear.to_json(("x", "y", "z"))
    assert found == {"coefficients": {"x": 0.0, "y": 0.0, "z": 0.0}, "residual": 0.0}


def test_nan_in_a_checkpoint_is_the_inputs_fault(folder, tmp_path):
    spoilt = {n: torch.randn(s) for n, s in SHAPES.items()}
    spoilt["b.mlp.down_proj.weight"][3, 4] = torch.nan
    save_file(spoilt, tmp_path / "model.safetensors")
    bank = Bank.open(str(folder / "base"), {"x": str(tmp_path)}, "mlp")
    bank.check_finite("a.mlp.up_proj.weight")
    with pytest.raises(UsageError, match=r"b\.mlp\.down_proj.*expert x.*NaN"):
        bank.check_finite("b.mlp.down_proj.weight")


def test_together_as_one_by_one(plan_of, surveyor):
    """Linear or not, with questions to the weights, of a tier without kernels, not finite."""
    plans = [
        plan_of(text)
        for text in (
            *("0.5 * (a + b)", "a * b.norm() + c", "torch.maximum(a, 0.3 * b + c)", "0 * a"),
            *("torch.cumsum(a, -1)", "torch.where((a + 0.2 * b).abs() > 1e-3, a, c)"),
            *("torch.log(a)", "a * (0.3 * a - b).abs().mean(1, keepdim=True)"),
        )
    ]
    fresh = Surveyor(surveyor.bank, surveyor.backend)
    found = fresh.survey_all(plans)
    assert [isinstance(one, Rejection) for one in found] == [False] * 6 + [True, False]
    for plan, survey in zip(plans, found, strict=True):
        if isinstance(survey, Survey):
            assert survey == surveyor.survey(plan)


def test_a_linear_update_is_surveyed_without_a_pass(plan_of, monkeypatch):
    plan, other = plan_of("0.5 * (a + b) - 0.1 * c"), plan_of("0.2 * a + (b - c) / 3")
    surveyor = Surveyor(plan_of.bank, plan_of.backend)
    surveyor.survey(plan)
    monkeypatch.setattr(surveyor.backend, "sweep_all", None)
    monkeypatch.setattr(surveyor.backend, "moments", None)
    assert surveyor.survey(other).linear.residual < 1e-7
    assert surveyor.survey(other).linear.coefficients == pytest.approx((0.2, 1 / 3, -1 / 3), 1e-6)


# ---- the program's clock goes on ------------------------------------------------------------------


def spent(plan: Plan) -> Plan:
    """The plan, all of whose program's time is over."""
    plan.clock.cpu_s = 1e6
    return plan


def test_a_plan_that_takes_too_long_to_survey_costs_only_itself(plan_of, surveyor):
    slow, other = spent(plan_of("0.3 * a + 0.1")), plan_of("0.3 * b + 0.2")
    found = surveyor.survey_all([slow, other])
    assert isinstance(found[0], Rejection) and found[0].kind == "timeout"
    assert "planning and surveying took more than" in found[0].detail
    assert found[1] == surveyor.survey(plan_of("0.3 * b + 0.2"))


def test_a_comparison_that_takes_too_long_finds_no_original(plan_of, surveyor, tmp_path):
    """The others' plans cost that time: they must not decide what becomes of this program."""
    plan, other = plan_of("0.37 * a"), plan_of("0.37 * a + 1e-9 * c")
    survey, mine = surveyor.survey(plan), surveyor.survey(other)
    with Store.open(tmp_path / "run.db") as store:
        preparer = Preparer(plan_of.planner, store, plan_of.updates)
        preparer.twins.recent["known"] = survey
        store.add_candidates([{"id": "new", "source": "another text"}])
        candidate = store.candidate("new")
        assert candidate is not None
        late = preparer._compared(candidate, spent(other), {other.fingerprint: mine})
    assert late == mine
