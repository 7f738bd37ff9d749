"""Draws the samples of one arm: from a model, the grammar, or weighted sums.

The state of an arm is in the store, and in its folders of generators and adapters.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any

from ..engine.records.candidate import MAIN, Candidate, Status
from ..engine.records.store import Store
from .arms import MODELS, Arm
from .draws import drawn, evolved, weighted_sum
from .generate import Writer, sample_wave, sampling_plan, seed_of, waves
from .learning import Lesson, Places, Stage, prefer
from .results import dev_score, ranked_programs
from .run_context import RunContext
from .writers import Writers

# Samples that see the same programs in their prompt, where a writer is shown the best so far.
ELITES_WAVE = 16
# Longer programs are not shown: they would leave no room for an answer.
ELITE_LETTERS = 2000


class ArmRun:
    """One arm of a run that is going on."""

    def __init__(self, context: RunContext, arm: Arm) -> None:
        self.context, self.arm, self.store = context, arm, context.store
        folder = context.folder
        place = folder if arm.name == MAIN else folder / "arms" / arm.name
        self.writers = Writers(place, context.generator)

    @property
    def is_sequential(self) -> bool:
        """Whether what it writes depends on scores of the same iteration."""
        return self.arm.writer in ("elites", "cma_es")

    def is_done(self, iteration: int) -> bool:
        return self.store.iterations(self.arm.name).get(iteration, {}).get("done", False)

    def samples(self, iteration: int) -> list[Candidate]:
        return self.store.candidates(iteration, self.arm.name)

    def texts(self, iteration: int) -> list[Candidate]:
        """Its samples of an iteration without copies, which are marked first."""
        decide_copies(self.store, self.samples(iteration))
        return [c for c in self.samples(iteration) if c.status is not Status.COPY]

    # ---- samples

    def writer(self, iteration: int) -> Writer | None:
        """The model that writes an iteration's programs; None where no model does."""
        if self.arm.writer not in MODELS:
            return None
        folder, key = self.writers.of(iteration), self.context.writer_key
        trained = None if folder == self.context.generator else folder
        adapter = self.writers.adapter_of(iteration)
        return Writer.of(key, self.context.generator_place, trained, adapter)

    def draws_as(self, other: ArmRun, iteration: int) -> bool:
        """Whether another arm asks the same model with the same seeds for these samples."""
        mine, theirs = self.arm, other.arm
        return (
            mine.writer == theirs.writer == "model"
            and mine.seed == theirs.seed
            and mine.temperature == theirs.temperature
            and self.writer(iteration) == other.writer(iteration)
        )

    def sample(self, iteration: int, earlier: Sequence[ArmRun]) -> None:
        """Draw the samples that the store lacks, before any of them is scored.

        What an earlier arm drew in the same way is copied.
        """
        left = self.left(iteration)
        same = next((other for other in earlier if self.draws_as(other, iteration)), None)
        if left and same:
            self.keep(iteration, left, map(as_drawn, same.samples(iteration)[left.start :]))
        elif left:
            self.draw(iteration, left)

    def search(self, iteration: int) -> None:
        """Draw and score in turn, since each wave goes on from the scores before it."""
        label = f"iteration {iteration}: score{self.arm.in_words}"
        while True:
            self.context.screen(label, self.texts(iteration))
            if not (left := self.left(iteration)):
                return
            self.draw(iteration, left)

    def left(self, iteration: int) -> range:
        """Numbers of the samples that are still to be drawn."""
        return range(len(self.samples(iteration)), self.context.config.samples)

    def draw(self, iteration: int, left: range) -> None:
        """Draw these samples, or as many as may be drawn before the next are scored."""
        num_experts, seed = len(self.context.config.experts), self.arm.seed
        total = self.context.config.samples
        self.context.progress.stage(f"iteration {iteration}: sample{self.arm.in_words}", total)
        self.context.progress.update(left.start)
        match self.arm.writer:
            case "model":
                self.ask(iteration, left, self.context.prompt())
            case "elites":
                self.ask(iteration, left[:ELITES_WAVE], self.context.prompt(self.elites()))
            case "cma_es":
                weights = evolved(seed, num_experts, self.scores())
                self.keep(iteration, left, map(weighted_sum, weights))
            case writer:
                before = (iteration - 1) * total
                places = ((before + n, seed_of(seed, iteration, n)) for n in left)
                rows = (drawn(writer, num_experts, seed, *place) for place in places)
                self.keep(iteration, left, rows)

    def ask(self, iteration: int, numbers: range, prompt: str) -> None:
        """Have the generator write these samples. All workers draw; waves are kept in order."""
        writer, context = self.writer(iteration), self.context
        assert writer is not None
        plan = sampling_plan(context.config, self.arm, prompt, iteration)
        session, draw = context.screener.session, partial(sample_wave, writer, plan)
        left = list(waves(numbers, context.config.generation.wave))
        asked = [session.submit(f"samples {w[0]} to {w[-1]}", partial(draw, w)) for w in left]
        for wave, answers in zip(left, asked, strict=True):
            rows = ({"source": text, "stop_reason": why} for text, why in answers.result())
            self.keep(iteration, wave, rows)
            context.screener.note_incidents()

    def keep(self, iteration: int, numbers: range, rows: Iterable[Mapping[str, Any]]) -> None:
        """Store the first of these samples in one transaction, as many as there are rows."""
        writer = self.writer(iteration)
        generator = writer.fingerprint if writer else None
        same = {"iteration": iteration, "generator": generator, "arm": self.arm.name}
        # There may be more numbers than rows, or more rows than numbers.
        found = [
            {"id": self.arm.sample_id(iteration, number), **row, **same}
            for number, row in zip(numbers, rows, strict=False)
        ]
        with self.store.transaction():
            self.store.add_candidates(found)
        self.context.progress.update(numbers.start + len(found))

    def stage(self, iteration: int) -> Stage:
        """What it learns from an iteration: its pairs are written, and nothing is trained yet."""
        lesson = Lesson(self.store, self.context.config, self.arm, iteration)
        adapter, after = self.writers.adapter_of(iteration), iteration + 1
        places = Places(adapter, self.writers.trained(after), self.writers.adapter(after))
        return Stage(lesson, prefer(lesson), places)

    # ---- what is known of its earlier samples

    def elites(self) -> list[str]:
        """Its best programs so far, for the prompt of a writer that is shown them."""
        names = ranked_programs(self.store, self.arm.name)
        found = (self.store.candidate(name) for name in names)
        texts = (c.source for c in found if c and c.source and len(c.source) <= ELITE_LETTERS)
        return list(islice(texts, self.context.config.preferences.elites))

    def scores(self) -> list[float]:
        """The dev scores of all its samples in order; 0 for one without a score."""
        turns = range(1, self.context.config.iterations + 1)
        found = [c for i in turns for c in self.samples(i)]
        # A copy points to a sample of its own iteration, which may point to another candidate.
        named = ((c.duplicate_of or c.id) if c.status is Status.COPY else c.id for c in found)
        return [dev_score(self.store, name) for name in named]


def as_drawn(candidate: Candidate) -> dict[str, Any]:
    return {"source": candidate.source, "stop_reason": candidate.stop_reason}


def decide_copies(store: Store, candidates: Sequence[Candidate]) -> None:
    """Mark every later program with exactly the same text as a copy of the first one."""
    first: dict[str, str] = {}
    with store.transaction():
        for candidate in candidates:
            original = first.setdefault(candidate.text, candidate.id)
            if original != candidate.id and candidate.status is None:
                store.decide(candidate.id, status=Status.COPY, duplicate_of=original)
