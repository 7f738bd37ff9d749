"""Reads a run's folder as typed results: `sd.open_run(folder)`. Nothing here writes or loads torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..engine.errors import MissingExtra, NoRun, UsageError
from ..engine.given import checked, in_python, wrong
from ..engine.records.candidate import BASE, BEST, MAIN, Candidate
from ..engine.records.compare import Comparison, answered_by, compare_candidates
from ..engine.records.database import check_readable
from ..engine.records.score import Score
from ..engine.records.store import Store
from ..engine.screening.folder import command_of, read_config
from ..engine.screening.place import DATABASE
from .names import arms_of, check_arm, find_candidate, is_known
from .run_html import rows_html
from .runs import LAST, newest_run
from .stored import cut_off, result_of
from .watching import Watcher, given_watcher, watched

if TYPE_CHECKING:
    import pandas

    from ..engine.merge import MergeReport

SPLITS = ("dev", "test")
# As many candidates are shown in a notebook.
SHOWN = 10


@dataclass(frozen=True)
class Linear:
    """A candidate's linear equivalent: the weighted sum of task vectors that is nearest to its update.

    `residual` is the distance between the two over the norm of the update.
    """

    coefficients: Mapping[str, float]
    residual: float


@dataclass(frozen=True)
class ScoredProgram:
    """A candidate of a run with its scores, as it was when the run was opened.

    `status` is scored, stopped, duplicate, rejected, failed, copy, or None before it is decided. `kind`,
    `detail` and `line` say why it was rejected. A duplicate, and a copy, has the scores of the one that it repeats.
    """

    id: str
    status: str | None
    source: str | None
    params: Mapping[str, Any]
    arm: str
    iteration: int | None
    kind: str | None
    detail: str | None
    line: int | None
    duplicate_of: str | None
    tier: str | None
    dev: Score | None
    test: Score | None
    linear: Linear | None
    fingerprint: str | None
    weights_fingerprint: str | None
    seconds: float | None

    def record(self) -> dict[str, Any]:
        """Return it as one flat row: `score` and its counts are on dev, `test_score` is on test."""
        score, linear = self.dev, self.linear
        numbers = ("score", "low", "high", "correct", "n")
        return {
            "id": self.id,
            "arm": self.arm,
            "iteration": self.iteration,
            "status": self.status,
            **{key: getattr(score, key) if score else None for key in numbers},
            "test_score": self.test.score if self.test else None,
            "test_n": self.test.n if self.test else None,
            **{
                key: getattr(self, key)
                for key in ("kind", "detail", "line", "duplicate_of", "tier")
            },
            "residual": linear.residual if linear else None,
            "coefficients": dict(linear.coefficients) if linear else None,
            "fingerprint": self.fingerprint,
            "weights_fingerprint": self.weights_fingerprint,
            "seconds": self.seconds,
            "params": dict(self.params),
            "source": self.source,
        }


@dataclass(frozen=True)
class Iteration:
    """One iteration of an arm: what it sampled, scored and learned from. `best` and `mean` are on dev."""

    arm: str
    iteration: int
    sampled: int
    valid: int
    texts: int
    updates: int
    best: float | None
    mean: float | None
    pairs: int
    steps: int
    rejected: Mapping[str, int]
    categories: Mapping[str, int]
    # All that run.db keeps of it, as `run --json` prints it.
    data: Mapping[str, Any] = field(repr=False)

    @staticmethod
    def of(arm: str, data: Mapping[str, Any]) -> Iteration:
        counts = ("sampled", "valid", "texts", "updates", "pairs")
        return Iteration(
            arm,
            data["iteration"],
            **{key: data.get(key, 0) for key in counts},
            best=data.get("best"),
            mean=data.get("mean"),
            steps=data.get("dpo_steps", 0),
            rejected=data.get("rejected", {}),
            categories=data.get("categories", {}),
            data={key: value for key, value in data.items() if key != "done"},
        )


def given_candidate(name: str, value: object) -> object:
    """Return a candidate of a run, or its name."""
    if not isinstance(value, str | ScoredProgram):
        raise wrong(name, "a candidate of the run, or its name", value)
    return value


def name_of(candidate: str | ScoredProgram) -> str:
    return candidate if isinstance(candidate, str) else candidate.id


def places_of(base: str | Path | None, experts: Mapping[str, str | Path] | None) -> dict[str, Any]:
    """Return where a run's models are now, as an export takes it."""
    moved = {name: str(place) for name, place in (experts or {}).items()}
    return {"base": None if base is None else str(base), "experts": moved}


@dataclass(frozen=True)
class Run:
    """What a run's folder held when it was opened. `kind` is the command that made it.

    `candidates` are in the order in which they came, the base and other known models among them.
    `result` is the object that `run --json` printed; None for a screening, and before a run's end.
    """

    folder: Path
    kind: str
    config: Mapping[str, Any] = field(repr=False)
    candidates: tuple[ScoredProgram, ...] = field(repr=False)
    iterations: tuple[Iteration, ...] = field(repr=False)
    result: Mapping[str, Any] | None = field(repr=False)

    def __len__(self) -> int:
        return len(self.candidates)

    def __iter__(self) -> Iterator[ScoredProgram]:
        return iter(self.candidates)

    def __contains__(self, name: object) -> bool:
        """Tell whether a name is that of a candidate, as `run[name]` reads it."""
        try:
            return isinstance(name, str) and bool(self[name])
        except UsageError:
            return False

    def __getitem__(self, name: str) -> ScoredProgram:
        """Return a candidate by its id, `best`, or the name of an expert or baseline.

        UsageError where there is none.
        """
        if not isinstance(name, str):
            raise wrong("name", "a candidate's name, as str", name)
        with Store.read(self.folder / DATABASE) as store:
            return self._by_id(find_candidate(store, self.config, name))

    def _by_id(self, wanted: str) -> ScoredProgram:
        for candidate in self.candidates:
            if candidate.id == wanted:
                return candidate
        raise UsageError(f"{self.folder}: has no candidate {wanted!r}")

    @property
    def base(self) -> ScoredProgram:
        """The base model, as it is. UsageError before it was scored."""
        return self[BASE]

    @property
    def best(self) -> ScoredProgram:
        """The best program by its dev score. UsageError before one was scored."""
        with Store.read(self.folder / DATABASE) as store:
            # A program may have the id "best".
            found = store.best()
        return self._by_id(found) if found else self[BEST]

    @property
    def verdict(self) -> str | None:
        """What a run says of itself on test; None for a screening, and before a run's end."""
        return self.result.get("verdict") if self.result else None

    @checked()
    def top(self, count: int = SHOWN, arm: str | None = None) -> list[ScoredProgram]:
        """Return the best programs by dev score, as the command `top` lists them; `run.base` is none of them.

        Experts and baselines are among them; with `arm` only what that arm sampled.
        """
        return ranking(self, arm)[:count]

    @checked(first=given_candidate, second=given_candidate)
    def compare(
        self, first: str | ScoredProgram, second: str | ScoredProgram, split: str = "dev"
    ) -> Comparison:
        """Compare two candidates question by question (McNemar, exact), or those of two names."""
        names = name_of(first), name_of(second)
        ids = tuple(self[name].id for name in names)
        if split not in SPLITS:
            raise wrong("split", " or ".join(map(repr, SPLITS)), split)
        if ids[0] == ids[1]:
            raise UsageError(f"compare {' '.join(names)}: both are {ids[0]}; give two candidates")
        with Store.read(self.folder / DATABASE) as store:
            return compare_candidates(store, ids[0], ids[1], split)

    @in_python()
    @checked(candidate=given_candidate, progress=given_watcher)
    def export(
        self,
        candidate: str | ScoredProgram,
        out: str | Path,
        *,
        overwrite: bool = False,
        base: str | Path | None = None,
        experts: Mapping[str, str | Path] | None = None,
        unsafe_sandbox: bool = False,
        progress: Watcher | bool = False,
    ) -> MergeReport:
        """Write a candidate, or one by its name, as a complete checkpoint to the folder `out`.

        The run's models must be those that it was scored with; `base` and `experts` say where they are now,
        where they were moved. Raises UsageError, or Rejected where the candidate was.
        """
        from .export import export, prepare_export

        name, models = name_of(candidate), places_of(base, experts)
        wanted = prepare_export(self.folder, name, Path(out), overwrite, **models)
        with watched(progress) as bar:
            bar.stage("export")
            return export(wanted, unsafe_sandbox=unsafe_sandbox, progress=bar.update)

    @in_python(mergekit="export_mergekit")
    @checked(candidate=given_candidate)
    def export_mergekit(
        self,
        candidate: str | ScoredProgram,
        out: str | Path,
        *,
        base: str | Path | None = None,
        experts: Mapping[str, str | Path] | None = None,
        unsafe_sandbox: bool = False,
    ) -> dict[str, Any]:
        """Write a candidate that is a weighted sum as a mergekit configuration, to the file `out`.

        Returns its coefficients and its linear residual. UsageError where that is not below 0.001, and
        where the program merges something else.
        """
        from .mergekit_export import export_mergekit

        name, models = name_of(candidate), places_of(base, experts)
        how = {**models, "unsafe_sandbox": unsafe_sandbox}
        return export_mergekit(self.folder, name, Path(out), **how)

    def records(self) -> list[dict[str, Any]]:
        """Return a plain row for each candidate, in the order in which they came."""
        return [candidate.record() for candidate in self.candidates]

    def to_pandas(self) -> pandas.DataFrame:
        """Return the records as a table, one column for each expert's coefficient.

        MissingExtra says how to install pandas where it is not.
        """
        if find_spec("pandas") is None:
            raise MissingExtra("pandas", "pandas")
        import pandas

        return pandas.DataFrame(map(flat_row, self.records()))

    def _repr_html_(self) -> str:
        return html_of(self)


def flat_row(row: dict[str, Any]) -> dict[str, Any]:
    """Return a record with its coefficients as columns of their own."""
    coefficients = row.pop("coefficients") or {}
    return {**row, **{f"coefficient.{n}": c for n, c in coefficients.items()}}


def ranking(run: Run, arm: str | None) -> list[ScoredProgram]:
    """Return the scored programs of a run, or of one arm, the best first; of equals the earliest."""
    found = [c for c in run.candidates if c.dev and c.status == "scored" and c.id != BASE]
    if arm is not None:
        check_arm(run.folder, run.config, arm)
        found = [c for c in found if c.arm == arm and not is_known(run.config, c.iteration)]
    return sorted(found, key=lambda c: c.dev.score if c.dev else 0.0, reverse=True)


def html_of(run: Run) -> str:
    """Return the table of the best, and of the base, as a notebook shows it."""
    shown = run.top()
    base = [c for c in run.candidates if c.id == BASE and c.dev]
    rows = [
        (c.id, c.status, c.dev, c.linear.residual if c.linear else None) for c in (*shown, *base)
    ]
    # As `ls` counts them: models that were known before are none.
    count = sum(c.source is not None for c in run.candidates)
    words = f"{run.kind} {run.folder.name}: {count} candidates, the best {len(shown)} by dev"
    return rows_html(words, rows, run.verdict or cut_off_in(run))


def cut_off_in(run: Run) -> str | None:
    """Return what a loop says of itself whose final test was begun and not ended."""
    valid = (c for c in run.candidates if c.status in ("scored", "duplicate"))
    mine = [c for c in valid if c.dev and c.arm == MAIN and c.iteration is not None]
    best = max(mine, key=lambda c: c.dev.score if c.dev else 0.0, default=None)
    if run.result or not (best and best.test):
        return None
    return cut_off(best.id, best.test.to_json())


@in_python()
@checked()
def open_run(folder: str | Path) -> Run:
    """Read all results of a run; `last` is the newest one in ./runs. Nothing is changed, and it may still go on.

    NoRun, which is a UsageError and a FileNotFoundError, where the folder holds no run. UsageError where
    what it holds is damaged, or of a version that is not known.
    """
    folder = Path(folder)
    folder = newest_run() if str(folder) == LAST and not folder.is_dir() else folder
    check_run(folder)
    config = read_config(folder)
    with Store.read(folder / DATABASE) as store:
        candidates = tuple(program_of(store, found) for found in store.candidates())
        iterations = [
            Iteration.of(arm, data)
            for arm in arms_of(config)
            for data in store.iterations(arm).values()
        ]
        result = result_of(store)
    return Run(folder, command_of(config), config, candidates, tuple(iterations), result)


def check_run(folder: Path) -> None:
    """Raise NoRun where a folder is not there, or holds no run."""
    if not folder.is_dir():
        raise NoRun(f"{folder}: not a run folder (there is no such folder)")
    check_readable(folder / DATABASE)
    if not (folder / DATABASE).is_file():
        raise NoRun(f"{folder}: not a run folder (it holds no run.db)")


def program_of(store: Store, found: Candidate) -> ScoredProgram:
    """Return a candidate of run.db with its scores."""
    linear = found.linear
    asked = answered_by(store, found)
    dev, test = (store.score(asked, split) if asked else None for split in ("dev", "test"))
    return ScoredProgram(
        id=found.id,
        status=str(found.status) if found.status else None,
        source=found.source,
        params=found.params,
        arm=found.arm,
        iteration=found.iteration,
        kind=found.kind,
        detail=found.detail,
        line=found.line,
        duplicate_of=found.duplicate_of,
        tier=found.tier,
        dev=dev,
        test=test,
        linear=Linear(linear["coefficients"], linear["residual"]) if linear else None,
        fingerprint=found.fingerprint,
        weights_fingerprint=found.weights_fingerprint,
        seconds=found.seconds,
    )
