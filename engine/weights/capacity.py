"""Plans who gets which memory of a machine, before anything is loaded. A pure function; no torch.

    a card  =  weights + reserve + key-value cache + its part of the bank (+ another generator)
    host    =  bank that is on no card + processes + tensors in flight + replay
    disk    =  adapters of all stages, and two generators that they are folded into

Each card has an engine of its own and a part of the bank of its own. What is on no card is pinned once
for all processes of the node, if it fits there; else it is read from disk at each use. Training comes
when the engines are closed, so it is planned beside them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..errors import UsageError
from .cache import cache_shape
from .machine import GIB, Gpu, Machine
from .shapes import ModelShapes, adapter_elements
from .training import Terms, Training, card_terms, host_terms, widths

# Assumed, since no engine is open: the driver's context; graphs; tokens of a batch that is prefilled.
CONTEXT_BYTES, GRAPH_BYTES, BATCH_TOKENS = 600 << 20, 1 << 30, 8192
# Samples that a generator with an engine of its own writes at once, where there is room.
WRITER_SEQUENCES = 32
# Kernels of a merge: results of one call, and a float32 copy of a tensor (engine/resident/holding.py).
KERNEL_BYTES = 1 << 30
# A worker leaves so much of its card free, for kernels and activations, before it puts a bank there.
FREE_BYTES = 2 << 30
# Assumed: a process with torch and an engine; the driver with torch and its sandbox.
WORKER_BYTES, DRIVER_BYTES = 3 << 30, 2 << 30
# vLLM pads the vocabulary to a multiple of so many rows.
VOCABULARY_ROWS = 64
# Without a GPU a cache has at most so many bytes, and 1 / CPU_SHARE of all.
CPU_CACHE_BYTES, CPU_SHARE = 512 << 20, 4


@dataclass(frozen=True)
class Demand:
    """What a run asks of a machine, apart from its models."""

    include: str = "mlp"
    sequences: int = 128  # answered at once, at most
    context: int = 4096  # tokens that an engine takes of prompt and answer
    tokens: int = 1356  # tokens of a question with its answer
    training: Training | None = None
    host_bytes: int | None = None  # --memory
    gpu_bytes: int | None = None  # bytes of each card, at most
    workers: int | None = None  # engines at a time; None: one on each card, or one


@dataclass(frozen=True)
class Device:
    """A card, or the processor: its bytes and what they are for. `training` takes turns with them."""

    name: str
    size_bytes: int
    terms: Terms
    training: Terms = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        more = {"training": self.training} if self.training else {}
        return {"name": self.name, "bytes": self.size_bytes, "terms": self.terms, **more}


@dataclass(frozen=True)
class Capacity:
    """The plan of a machine's memory. `bank` says how many bytes of it are where."""

    devices: tuple[Device, ...]
    host: Device
    disk: Device
    sequences: int | None  # at once in one engine; None where the cache's shape is not known
    kv_tokens: int | None  # tokens in one engine's cache
    bank: Terms

    @property
    def most_pinned(self) -> int:
        """The bytes of the host's memory that banks may take."""
        others = {name: size for name, size in self.host.terms.items() if name != "bank"}
        return half_of_rest(self.host.size_bytes, others)

    def to_json(self) -> dict[str, object]:
        return {
            "devices": [device.to_json() for device in self.devices],
            "host": self.host.to_json(),
            "disk": self.disk.to_json(),
            "sequences": self.sequences,
            "kv_tokens": self.kv_tokens,
            "bank": self.bank,
        }


@dataclass(frozen=True)
class Shares:
    """What each of a machine's workers may take, in bytes.

    A worker has a card: `cache` and `bank` are there. `pinned` is of the host's memory: all workers of the
    machine share what is there, or each has so much for itself. It answers `sequences` at once, where that is
    known. `writer_cache` is that of a generator with an engine of its own, if there is one.
    """

    cache: int
    bank: int
    pinned: int
    sequences: int | None = None
    writer_cache: int | None = None

    @staticmethod
    def of(capacity: Capacity, num_banks: int = 1) -> Shares:
        """Return the same shares for all cards: those of the smallest one.

        `num_banks` is how many copies of the bank a node's workers pin; each has its part of what may be pinned.
        """
        devices = capacity.devices
        cache = min(device.terms["kv_cache"] for device in devices)
        wanted = capacity.bank["pinned"] + capacity.bank["disk"]
        pinned = min(wanted, capacity.most_pinned // num_banks)
        writers = [d.terms["generator_cache"] for d in devices if "generator_cache" in d.terms]
        bank, sequences = capacity.bank["device"], capacity.sequences
        return Shares(cache, bank, pinned, sequences, min(writers, default=None))


@dataclass(frozen=True)
class Models:
    """The shapes of a run's models. `generator` is None where the base's engine writes programs, too."""

    base: ModelShapes
    experts: Mapping[str, ModelShapes]
    generator: ModelShapes | None = None

    def bank(self, include: str) -> dict[str, int]:
        """Return the bytes of each tensor to merge, of base and experts together."""
        all_models = (self.base, *self.experts.values())
        return {
            name: sum(m.tensors.get(name, self.base.tensors[name]).size_bytes for m in all_models)
            for name in self.base.selected(include)
        }


def plan_capacity(models: Models, machine: Machine, demand: Demand) -> Capacity:
    """Return who gets which memory. UsageError where something cannot fit: what, and what would help."""
    bank = models.bank(demand.include)
    if not machine.gpus:
        return plan_processor(models, machine, demand, bank)
    cards = machine.gpus[: demand.workers]
    alike = {gpu: plan_card(models, gpu, demand, bank, machine.gpus) for gpu in set(cards)}
    planned = [alike[gpu] for gpu in cards]
    on_cards = min(device.terms["bank"] for device, _ in planned)
    host = plan_host(machine, len(cards), demand, bank, sum(bank.values()) - on_cards)
    pinned = host.terms["bank"]
    at_once = [sequences for _, sequences in planned if sequences is not None]
    smallest = min((device for device, _ in planned), key=lambda device: device.terms["kv_cache"])
    shape = cache_shape(models.base)
    return Capacity(
        tuple(device for device, _ in planned),
        host,
        plan_disk(models, machine, demand),
        min(at_once) if at_once else None,
        shape and smallest.terms["kv_cache"] // shape.token_bytes,
        {"device": on_cards, "pinned": pinned, "disk": sum(bank.values()) - on_cards - pinned},
    )


# ---- one card


def plan_card(
    models: Models, gpu: Gpu, demand: Demand, bank: Mapping[str, int], gpus: Sequence[Gpu]
) -> tuple[Device, int | None]:
    """Return one card's terms, and how many sequences its engine answers at once.

    First come weights and reserve. Half of the sequences' usual tokens have room before the bank, since
    a small batch costs less than a bank that comes over the bus. The cache takes all that is left.
    """
    most = min(gpu.free_bytes, demand.gpu_bytes or gpu.free_bytes)
    terms = {"weights": engine_bytes(models.base), "reserve": reserve_bytes(models.base, demand)}
    shape = cache_shape(models.base)
    if models.generator is not None:
        terms |= generator_terms(models, demand, most - sum(terms.values()))
    left, least = most - sum(terms.values()), one_sequence(models.base, demand)
    if left < least:
        wanted = {**terms, "kv_cache": least}
        raise does_not_fit(gpu.name, most, wanted, "a card with more memory", demand)
    usual = shape.bytes_for(-(-demand.sequences // 2), demand.tokens) if shape else least
    spare = max(0, FREE_BYTES + CONTEXT_BYTES + GRAPH_BYTES - terms["reserve"])
    held = held_bytes(bank, left - max(least, usual) - spare)
    if held:
        terms["reserve"], left = terms["reserve"] + spare, left - spare
    full = shape.bytes_for(demand.sequences, demand.context) if shape else left - held
    cache = min(left - held, full)
    if shape:
        cache = cache // shape.block_bytes * shape.block_bytes
    terms |= {"kv_cache": cache, "bank": held}
    training = training_terms(models, demand, gpu, gpus)
    at_once = shape and min(demand.sequences, shape.sequences_in(cache, demand.tokens))
    return Device(gpu.name, most, terms, training), at_once


def generator_terms(models: Models, demand: Demand, room: int) -> Terms:
    """Return what a generator's own engine takes: weights with graphs, and a cache for some samples at once.

    The cache is a quarter of what the weights leave at most, and one full context at least.
    """
    assert models.generator is not None
    model, weights = models.generator, engine_bytes(models.generator) + GRAPH_BYTES
    shape = cache_shape(model)
    least = one_sequence(model, demand) or one_sequence(models.base, demand)
    wanted = shape.bytes_for(WRITER_SEQUENCES, demand.tokens) if shape else least
    return {"generator": weights, "generator_cache": max(least, min(wanted, (room - weights) // 4))}


def engine_bytes(model: ModelShapes) -> int:
    """Return the bytes of an engine's weights: the checkpoint's, with its vocabulary padded."""
    padded = 0
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        if shape := model.tensors.get(name):
            rows = -shape.sizes[0] % VOCABULARY_ROWS
            padded += rows * shape.size_bytes // max(1, shape.sizes[0])
    return model.size_bytes + padded


def reserve_bytes(model: ModelShapes, demand: Demand) -> int:
    """Return what context, graphs, activations and the kernels of a merge take for a time."""
    hidden, widest = widths(model)
    activations = BATCH_TOKENS * (4 * hidden + 3 * widest) * model.itemsize_bytes
    logits = 3 * 4 * demand.sequences * (model.number("vocab_size") or 0)
    return CONTEXT_BYTES + GRAPH_BYTES + KERNEL_BYTES + activations + logits


def one_sequence(model: ModelShapes, demand: Demand) -> int:
    """Return the bytes of a cache for one full context; where that is not known, of nothing."""
    shape = cache_shape(model)
    return shape.bytes_for(1, demand.context) if shape else 0


def held_bytes(bank: Mapping[str, int], room: int) -> int:
    """Return the bytes of the bank's tensors that find room, in their order (`choose_homes`)."""
    held = 0
    for size in bank.values():
        held += size if held + size <= room else 0
    return held


def training_terms(models: Models, demand: Demand, gpu: Gpu, gpus: Sequence[Gpu]) -> Terms:
    """Return what a stage of training takes of a card, one of these. UsageError where that is more than it has.

    Training takes the first cards, as many as share a batch evenly.
    """
    training = demand.training
    if training is None or gpu not in gpus[: training.ranks(len(gpus))]:
        return {}
    model = models.generator or models.base
    terms = {**card_terms(model, training, len(gpus)), "reserve": CONTEXT_BYTES}
    return checked_training(terms, gpu.name, gpu.free_bytes, demand)


def checked_training(terms: Terms, where: str, size_bytes: int, demand: Demand) -> Terms:
    """Return the terms of a stage of training. UsageError where they are more than `size_bytes`."""
    if sum(terms.values()) > size_bytes:
        help_text = "a smaller dpo.batch_size or dpo.lora_rank, or "
        help_text += "more memory" if where == "this machine" else "a card with more memory"
        raise does_not_fit(f"training on {where}", size_bytes, terms, help_text, demand)
    return terms


# ---- host and disk


def plan_host(
    machine: Machine, workers: int, demand: Demand, bank: Mapping[str, int], wanted: int
) -> Device:
    """Return the host's terms: of `wanted` bytes of the bank as many are pinned as find room."""
    terms = {"processes": DRIVER_BYTES + WORKER_BYTES * workers, **flight_terms(bank, workers)}
    known = [size for size in (machine.host_bytes, demand.host_bytes) if size is not None]
    most = min(known, default=sum(terms.values()) + 2 * wanted)
    if sum(terms.values()) > most:
        help_text = "more memory, or fewer workers"
        raise does_not_fit("the host", most, terms, help_text, demand)
    terms["bank"] = min(wanted, half_of_rest(most, terms))
    return Device("host", most, terms)


def half_of_rest(most: int, terms: Mapping[str, int]) -> int:
    """Return what may be pinned. It cannot be taken back, so as much stays free for files and others."""
    return (most - sum(terms.values())) // 2


def flight_terms(bank: Mapping[str, int], num_workers: int) -> Terms:
    """Return what the largest tensor takes while it is read, and in a program that torch replays."""
    largest = max(bank.values(), default=0)
    return {"in_flight": 2 * largest * (1 + num_workers), "replay": 4 * largest}


def plan_disk(models: Models, machine: Machine, demand: Demand) -> Device:
    """Return what training takes of the disk: the float32 adapter of each stage, and the generators.

    Of those there are two at a time: the one that wrote an iteration, and the one trained on it.
    """
    model, training = models.generator or models.base, demand.training
    stages = training.stages if training else 0
    terms = {"trained": model.size_bytes * min(stages, 2)}
    terms["adapters"] = 4 * adapter_elements(model, training.rank) * stages if training else 0
    most = sum(terms.values()) if machine.disk_bytes is None else machine.disk_bytes
    if sum(terms.values()) > most:
        help_text = "a larger disk, or fewer iterations"
        raise does_not_fit("the disk", most, terms, help_text, demand)
    return Device("disk", most, terms)


def plan_processor(
    models: Models, machine: Machine, demand: Demand, bank: Mapping[str, int]
) -> Capacity:
    """Return the plan of a machine without a card: all is in its memory, and tensors are mapped."""
    assert machine.host_bytes is not None, "only this machine can be without a card"
    most = min(machine.host_bytes, demand.host_bytes or machine.host_bytes)
    shape, weights, workers = cache_shape(models.base), models.base.size_bytes, demand.workers or 1
    least = one_sequence(models.base, demand)
    cache = min(CPU_CACHE_BYTES, most // CPU_SHARE // workers)
    if shape:
        cache = max(least, min(cache, shape.bytes_for(demand.sequences, demand.context)))
    terms = {
        "weights": workers * (weights + (models.generator.size_bytes if models.generator else 0)),
        "kv_cache": workers * cache,
        "processes": DRIVER_BYTES,
        **flight_terms(bank, workers),
    }
    if workers * least > most or terms["weights"] + terms["kv_cache"] > machine.host_bytes:
        help_text = "fewer --workers" if workers > 1 else "more memory, or --gpus"
        raise does_not_fit("this machine", most, terms, help_text, demand)
    held = min(sum(bank.values()), max(0, most - sum(terms.values())))
    terms["bank"] = held
    training = processor_training(models, most, demand)
    device, rest = Device("cpu", machine.host_bytes, terms, training), sum(bank.values()) - held
    tokens = shape and cache // shape.token_bytes
    at_once = shape and min(demand.sequences, shape.sequences_in(cache, demand.tokens))
    disk = plan_disk(models, machine, demand)
    return Capacity(
        (device,), device, disk, at_once, tokens, {"device": held, "pinned": 0, "disk": rest}
    )


def processor_training(models: Models, most: int, demand: Demand) -> Terms:
    """Return what a stage of training takes of the host's memory. UsageError where that is too much."""
    if demand.training is None:
        return {}
    terms = host_terms(models.generator or models.base, demand.training)
    return checked_training(terms, "this machine", most, demand)


def does_not_fit(
    what: str, size_bytes: int, terms: Mapping[str, int], help_text: str, demand: Demand
) -> UsageError:
    """Return the error that names the largest term and the setting that would help."""
    largest = max(terms, key=lambda name: terms[name])
    if largest == "kv_cache":
        help_text = f"engine.max_model_len below {demand.context}"
    listed = ", ".join(f"{name} {size / GIB:.2f}" for name, size in terms.items() if size)
    return UsageError(
        f"{what}: has {size_bytes / GIB:.2f} GiB, and {sum(terms.values()) / GIB:.2f} GiB are needed "
        f"at least ({listed}); the largest is {largest}: what helps is {help_text}"
    )
