"""Tries the programs that a run found on other experts of the same base: `selfdev-engine transfer`.

It is table 3 of the paper (arXiv 2410.15639). The programs are the best by the run's dev scores, and
nothing about them is tuned: their dev scores here are shown, but decide nothing. Task arithmetic is tuned
anew beside them, on dev. All are scored on test, and each score is a look that counts in the run, too.

A transfer is a screening in a folder of its own inside the run, so it goes on after a kill.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import Any

from ..engine.errors import keeping
from ..engine.output.folder import real
from ..engine.records.candidate import BASE
from ..engine.records.candidate_json import to_json
from ..engine.records.store import Store
from ..engine.screen import check_machine, open_screener, screen_stage
from ..engine.screening.folder import completed, open_folder
from ..engine.screening.identity import inputs_of, record_inputs
from ..engine.screening.inputs import open_selection, open_task
from ..engine.screening.pipeline import Screener, score_base
from ..engine.screening.place import DATABASE, claimed
from .baselines import TUNED, known_candidates
from .final_test import score_on_test
from .results import LOOKS, LOOKS_OF_TRANSFERS, dev_score, looks_of
from .runs import keeping_time
from .transfer_inputs import Found, TransferRequest
from .verdict import comparisons, verdict
from .watching import Watcher


def run_transfer(request: TransferRequest, progress: Watcher) -> dict[str, Any]:
    """Make or resume a transfer, and return the object that `transfer --json` prints."""
    began, settings, folder = time.monotonic(), request.screening, request.folder
    check_machine(settings)
    with ExitStack() as stack:
        stack.enter_context(claimed(real(request.run)))
        stack.enter_context(open_folder(folder, request.wanted, "resume", completed))
        store = stack.enter_context(Store.open(folder / DATABASE))
        found = inputs_of(settings, open_selection(settings), open_task(settings))
        record_inputs(store, found, folder, settings.accept_engine)
        transfer = Transfer(request, store, began)
        transfer.count_looks()
        screener = stack.enter_context(open_screener(settings, store, folder))
        screener.session.start()
        progress.stage("base", 1)
        score_base(screener)
        with keeping(lambda: transfer.result(screener)):
            transfer.decide(screener, progress)
            screener.reader.finish()
        return transfer.result(screener)


class Transfer:
    """One transfer: its state is in its store, its looks also in that of the run."""

    def __init__(self, request: TransferRequest, store: Store, began: float) -> None:
        self.request, self.store, self.began = request, store, began
        self.experts = {name: f"expert-{name}" for name in request.screening.experts}

    def count_looks(self) -> None:
        """Tell the run how often this transfer has scored a model on test."""
        run = self.request.run
        with keeping_time(run), Store.open(run / DATABASE) as of_run:
            counts = of_run.setting(LOOKS_OF_TRANSFERS, {"*": "whole"}) or {}
            counts[self.request.folder.name] = self.store.setting(LOOKS, "whole") or 0
            of_run.set_setting(LOOKS_OF_TRANSFERS, counts)

    def decide(self, screener: Screener, progress: Watcher) -> None:
        """Score all on dev, then base, experts, the tuned setting and the programs on test."""
        known = known_candidates(list(self.experts), [TUNED])
        programs = [{"id": p.id, "source": p.source, "params": p.params} for p in self.programs]
        there = {c.id for c in self.store.candidates()}
        with self.store.transaction():
            rows = [*known, *programs]
            self.store.add_candidates(row for row in rows if row["id"] not in there)
        tuned = [str(row["id"]) for row in known]
        screen_stage(screener, "experts, task arithmetic", tuned, progress)
        screen_stage(screener, "programs", self.names, progress)
        names = [BASE, *self.experts.values(), *self.tuned, *self.names]
        ran = [name for name in names if self.ran(name)]
        score_on_test(screener, ran, progress, self.count_looks)

    @property
    def programs(self) -> tuple[Found, ...]:
        return self.request.programs

    @property
    def names(self) -> list[str]:
        """The ids of the run's programs, the best by its dev score first."""
        return [program.id for program in self.programs]

    @property
    def tuned(self) -> list[str]:
        """The setting of task arithmetic that is best on dev, if one ran."""
        found = self.store.best_setting(TUNED)
        return [found] if found else []

    def ran(self, name: str) -> bool:
        found = self.store.candidate(name)
        return found is not None and found.is_valid

    def row(self, name: str) -> dict[str, Any]:
        """A candidate as `screen --json` has it, with its test score, and its dev score beside it."""
        dev = self.store.score(name) if self.ran(name) else None
        return {**to_json(self.store, name, "test"), "dev": dev.to_json() if dev else None}

    def result(self, screener: Screener) -> dict[str, Any]:
        """What was found so far."""
        there = {c.id for c in self.store.candidates()}
        experts = {name: i for name, i in self.experts.items() if i in there}
        names = [name for name in self.names if name in there]
        tuned = self.tuned
        ran = [name for name in names if self.ran(name)]
        known = {"the base": BASE}
        if scored := [n for n, i in experts.items() if self.ran(i)]:
            best = max(scored, key=lambda n: dev_score(self.store, experts[n]))
            known[f"the best expert {best}"] = experts[best]
        if tuned:
            known["task arithmetic"] = tuned[0]
        compared = comparisons(self.store, ran[0], known) if ran else []
        with Store.read(self.request.run / DATABASE) as of_run:
            looks = looks_of(of_run)
        return {
            "run": str(self.request.run),
            "transfer": str(self.request.folder),
            "seconds": time.monotonic() - self.began,
            "engine": screener.session.usage.to_json(),
            "notes": [*screener.preparer.planner.bank.selection.notes, *screener.notes],
            "base": self.row(BASE),
            "experts": {name: self.row(i) for name, i in experts.items()},
            TUNED: self.row(tuned[0]) if tuned else None,
            "candidates": [
                {**self.row(p.id), "dev_of_run": p.dev} for p in self.programs if p.id in there
            ],
            "comparisons": compared,
            "verdict": verdict(self.row(ran[0]) if ran else None, compared),
            "test_looks": looks,
        }
