"""Estimates how long the stages of a run take, from stated throughputs. Nothing here is measured.

A card reads its memory at 80 % of its peak, and computes prompts at 45 % and training at 40 % of its
peak in bf16. Writing an answer is bound by memory: each step reads all weights and all keys and values.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from .cache import cache_shape
from .capacity import Capacity, Models
from .machine import Gpu, Machine
from .training import ranks_of

Stages = dict[str, float]


@dataclass(frozen=True)
class Assumed:
    """What the estimate takes for granted; it is printed beside it."""

    memory_share: float = 0.8  # share of a card's peak; so are the next two
    prefill_share: float = 0.45
    training_share: float = 0.4
    bus_bytes_per_s: float = 50e9  # from pinned memory to a card
    disk_bytes_per_s: float = 2e9
    start_s: float = 120.0  # all engines, from nothing to the first answer
    driver_s: float = 0.05  # seconds of the driver's processor, for a program
    shared_tokens: int = 1000  # tokens of the shots, shared by a candidate's questions
    question_tokens: int = 100
    answer_tokens: int = 256
    program_tokens: int = 400
    scored_share: float = 0.1  # share of the written programs


@dataclass(frozen=True)
class Amounts:
    """How much there is to do."""

    questions: int  # asked of each candidate
    programs: int  # written by the generator
    candidates: int  # scored whatever is written: base, experts, baselines, given programs
    iterations: int = 1
    training_steps: int = 0  # steps of all stages
    pair_tokens: int = 0  # tokens of one step: all its prompts and programs
    compared_tokens: float = 0.0  # tokens of the holdout's pairs that are compared, for each step
    batch_size: int = 1  # pairs of a step, which cards share
    tests: int = 0  # candidates that are scored on the test split
    test_questions: int = 0


@dataclass(frozen=True)
class Durations:
    """Seconds of each stage on all cards together, and of the whole."""

    stages: Stages
    seconds: float
    assumed: Assumed

    def to_json(self) -> dict[str, object]:
        stages = {name: round(seconds, 1) for name, seconds in self.stages.items()}
        return {
            "stages": stages,
            "seconds": round(self.seconds, 1),
            "assumed": asdict(self.assumed),
        }


def estimate(
    models: Models,
    machine: Machine,
    capacity: Capacity,
    amounts: Amounts,
    assumed: Assumed | None = None,
) -> Durations | None:
    """Return the seconds of the stages; None without a card, or where the cache's shape is not known."""
    if not machine.gpus or not capacity.sequences:
        return None
    assumed = assumed or Assumed()
    slowest = min(machine.gpus, key=lambda gpu: gpu.bytes_per_s)
    card = Card(models, slowest, capacity, assumed)
    scored = amounts.candidates + round(assumed.scored_share * amounts.programs)
    one = card.swap_s() + card.answers_s(amounts.questions)
    work = {
        "scoring": scored * one,
        "sampling": card.programs_s(amounts.programs),
        "training": amounts.training_steps
        * card.training_s(amounts.pair_tokens, amounts.compared_tokens),
        "test": amounts.tests * (card.swap_s() + card.answers_s(amounts.test_questions)),
    }
    stages = {name: seconds / len(capacity.devices) for name, seconds in work.items()}
    stages["training"] = work["training"] / ranks_of(amounts.batch_size, len(machine.gpus))
    stages["driver"] = (amounts.programs + amounts.candidates) * assumed.driver_s
    stages["starts"] = amounts.iterations * assumed.start_s
    busy = sum(stages[name] for name in work)
    return Durations(stages, max(busy, stages["driver"]) + stages["starts"], assumed)


@dataclass(frozen=True)
class Card:
    """One card at work, with its part of the plan."""

    models: Models
    gpu: Gpu
    capacity: Capacity
    assumed: Assumed

    @property
    def bytes_per_s(self) -> float:
        return self.assumed.memory_share * self.gpu.bytes_per_s

    def swap_s(self) -> float:
        """Return the seconds of a swap: the bank is read from where it is, its base part is written."""
        bank, a = self.capacity.bank, self.assumed
        written = sum(bank.values()) // (1 + len(self.models.experts))
        here = (bank["device"] + 2 * written) / self.bytes_per_s
        return here + bank["pinned"] / a.bus_bytes_per_s + bank["disk"] / a.disk_bytes_per_s

    def prefill_s(self, tokens: float) -> float:
        operations = 2 * self.models.base.num_elements * tokens
        return operations / (self.assumed.prefill_share * self.gpu.flops)

    def decode_s(self, answers: int, prompt_tokens: int, tokens: int) -> float:
        """Return the seconds of writing answers, as many at once as there is room for."""
        shape, most = cache_shape(self.models.base), self.capacity.sequences or 1
        assert shape is not None
        at_once = min(answers, most)
        read = at_once * (prompt_tokens + tokens / 2) * shape.token_bytes
        step_s = (self.models.base.size_bytes + read) / self.bytes_per_s
        return -(-answers // most) * tokens * step_s

    def answers_s(self, questions: int) -> float:
        """Return the seconds of a candidate's answers; its questions share the shots."""
        a = self.assumed
        prompt = a.shared_tokens + a.question_tokens
        prefill = self.prefill_s(a.shared_tokens + questions * a.question_tokens)
        return prefill + self.decode_s(questions, prompt, a.answer_tokens)

    def programs_s(self, programs: int) -> float:
        """Return the seconds of writing programs; they share the prompt."""
        return self.decode_s(programs, self.assumed.shared_tokens, self.assumed.program_tokens)

    def training_s(self, tokens: int, compared: float = 0.0) -> float:
        """Return the seconds of a step, with its part of the evaluations on the holdout.

        A forward pass takes 2 operations a token and element. A step has the policy's, the same once more since
        activations are computed anew, the backward pass of what is not trained, and the reference's; an
        evaluation has the policy's and the reference's.
        """
        operations = self.models.base.num_elements * (8 * tokens + 4 * compared)
        return operations / (self.assumed.training_share * self.gpu.flops)
