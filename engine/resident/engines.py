"""A live model that answers prompts: vLLM in this process, or plain transformers as its definition.

Both have the same methods: `placement()`, `generate(...)`, `reset()`. Weights are changed by whoever
holds the placement, only while no request is alive, and `reset()` follows before the next one.
"""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, final

import torch

from ..checkpoint import Checkpoint
from ..errors import UsageError
from .placement import Placement, Segment, record

DTYPES: dict[torch.dtype, Any] = {
    torch.bfloat16: "bfloat16",
    torch.float16: "float16",
    torch.float32: "float32",
}
MOST_KV_BYTES = 512 << 20  # unless told otherwise
MAX_MODEL_LEN = 4096
BLOCK_SIZE = 32
FIRST_VLLM, AFTER_VLLM = (0, 26), (0, 34)  # releases whose worker interface this uses
MAX_PROMPTS = 20_000  # whose tokens are kept
VLLM_ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_PLUGINS": "",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
}


@dataclass(frozen=True)
class Sampling:
    """How to answer; temperature 0 is greedy."""

    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()


@dataclass(frozen=True)
class Completion:
    text: str
    finish_reason: str  # "stop" or "length"
    num_tokens: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


Progress = Callable[[int], None]
Finished = list[tuple[int, Completion]]  # by the prompt's number
Feed = Callable[[Finished], list[str] | None]  # what to ask besides; None: enough, drop the rest


class LiveEngine(ABC):
    """One live model. `name`: what answers, with its version."""

    name: str

    @abstractmethod
    def placement(self) -> Placement:
        """Where the checkpoint's tensors live."""

    @abstractmethod
    def generate(
        self,
        prompts: Sequence[str],
        sampling: Sampling,
        seeds: Sequence[int] | None,
        done: Progress,
        feed: Feed | None = None,
    ) -> list[Completion | None]:
        """Answers in the order of the prompts, then of those that `feed` added; None: dropped."""

    def wrote(self, live: torch.Tensor) -> None:
        """A live parameter was written: forget what was made of it."""
        return None

    @abstractmethod
    def reset(self) -> None:
        """Forget all that older weights computed."""


def base_dtype(checkpoint: Checkpoint) -> torch.dtype:
    """The dtype of most of a checkpoint's elements. UsageError where no engine runs it."""
    sizes: dict[torch.dtype, int] = {}
    for entry in checkpoint.entries.values():
        sizes[entry.dtype] = sizes.get(entry.dtype, 0) + entry.size_bytes
    dtype = max(sizes, key=sizes.__getitem__)
    if dtype not in DTYPES:
        raise UsageError(f"{checkpoint.folder}: weights of {dtype} cannot be run")
    return dtype


def check_version(version: str) -> None:
    """UsageError where vLLM is of a release that was never tried."""
    numbers = tuple(int(word) for word in re.findall(r"\d+", version)[:2])
    if not FIRST_VLLM <= numbers < AFTER_VLLM:
        first, after = (".".join(map(str, v)) for v in (FIRST_VLLM, AFTER_VLLM))
        raise UsageError(
            f"vLLM {version} is not supported: install one from {first} up to below {after}, "
            "or give --engine transformers"
        )


def check_dense(checkpoint: Checkpoint) -> None:
    """UsageError for weights that do not stay as the checkpoint has them once they are loaded."""
    config = checkpoint.config
    if "quantization_config" in config:
        raise UsageError(
            f"{checkpoint.folder}: is quantised (quantization_config in config.json): its weights "
            "cannot be swapped; use the 16 bit checkpoint"
        )
    experts = [key for key in ("num_local_experts", "num_experts") if config.get(key)]
    if experts and not torch.cuda.is_available():
        raise UsageError(
            f"{checkpoint.folder}: is a mixture of experts ({experts[0]}): on the CPU vLLM lays "
            "such weights out anew, so they cannot be swapped; give --engine transformers"
        )


def context_of(checkpoint: Checkpoint) -> int:
    """Tokens of prompt and answer together."""
    longest = int(checkpoint.config.get("max_position_embeddings", MAX_MODEL_LEN))
    return min(longest, MAX_MODEL_LEN)


def cache_bytes(
    checkpoint: Checkpoint, dtype: torch.dtype, max_num_seqs: int, most_bytes: int | None
) -> int:
    """Of keys and values: for full contexts of all sequences, where that is less than the most.

    No more than can be used: vLLM's reset, after each swap, walks every block of it. UsageError
    where the most is too little for one full context.
    """
    most = MOST_KV_BYTES if most_bytes is None else most_bytes
    config = checkpoint.config
    try:
        heads = int(config.get("num_key_value_heads") or config["num_attention_heads"])
        size = int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])
        token_bytes = 2 * int(config["num_hidden_layers"]) * heads * size * dtype.itemsize
    except (KeyError, TypeError):  # a config of parts
        return most
    sequence = -(-context_of(checkpoint) // BLOCK_SIZE)  # blocks; vLLM keeps one more empty
    least = (sequence + 1) * BLOCK_SIZE * token_bytes
    if most_bytes is not None and most_bytes < least:
        raise UsageError(
            f"--memory: {most_bytes / 2**20:.1f} MiB of it are for the engine's key-value cache; one "
            f"sequence of {context_of(checkpoint)} tokens takes {least / 2**20:.1f} MiB: allow more"
        )
    return min(most, (max_num_seqs * sequence + 1) * BLOCK_SIZE * token_bytes)


def metas(
    checkpoint: Checkpoint, dtype: torch.dtype
) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    return {name: (checkpoint.shape(name), dtype) for name in checkpoint.names}


def prompt_limit(context: int, max_new_tokens: int) -> int:
    """Tokens of a prompt that are kept, its last ones, as lm-evaluation-harness cuts; at least half."""
    return max(context - max_new_tokens, context // 2, 1)


@final
class VllmEngine(LiveEngine):
    """vLLM, in-process, eager on the CPU."""

    def __init__(
        self, checkpoint: Checkpoint, most_kv_bytes: int | None, max_num_seqs: int, seed: int
    ) -> None:
        os.environ.update({k: v for k, v in VLLM_ENVIRONMENT.items() if k not in os.environ})
        from vllm import LLM
        from vllm import __version__ as version

        check_version(version)
        check_dense(checkpoint)
        self.name = f"vllm {version}"
        self.checkpoint, self.dtype = checkpoint, base_dtype(checkpoint)
        self.llm = LLM(
            str(checkpoint.folder),
            dtype=DTYPES[self.dtype],
            enforce_eager=not torch.cuda.is_available(),
            max_model_len=context_of(checkpoint),
            max_num_seqs=max_num_seqs,
            kv_cache_memory_bytes=cache_bytes(checkpoint, self.dtype, max_num_seqs, most_kv_bytes),
            block_size=BLOCK_SIZE,
            worker_extension_cls=f"{__package__}.extension.SwapExtension",
            seed=seed,
        )
        self._request = 0
        self._tokens: dict[str, list[int]] = {}  # of prompts that were asked before
        self._packed: dict[int, list[Any]] = {}  # copies of weights, by their address

    def placement(self) -> Placement:
        (model,) = self.llm.collective_rpc("selfdev_model")
        for module in model.modules():
            if hasattr(linear := getattr(module, "cpu_linear", None), "forget"):
                self._packed.setdefault(module.weight.data_ptr(), []).append(linear)
        return record(model, metas(self.checkpoint, self.dtype))

    def generate(
        self,
        prompts: Sequence[str],
        sampling: Sampling,
        seeds: Sequence[int] | None,
        done: Progress,
        feed: Feed | None = None,
    ) -> list[Completion | None]:
        found: list[Completion | None] = []
        waiting: dict[str, int] = {}

        def ask(more: Sequence[str]) -> None:
            for prompt in more:
                seed = seeds[len(found)] if seeds else None
                waiting[self._add(prompt, sampling, seed)] = len(found)
                found.append(None)

        ask(prompts)
        while self.llm.llm_engine.has_unfinished_requests():
            finished = self._step(waiting)
            for number, completion in finished:
                found[number] = completion
            done(len(found) - len(waiting))
            if feed and finished:
                more = feed(finished)
                if more is None:
                    self.llm.llm_engine.abort_request(list(waiting))
                    waiting.clear()
                    feed = None
                else:
                    ask(more)
        return found

    def _add(self, prompt: str, sampling: Sampling, seed: int | None) -> str:
        """The id of a new request."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        self._request += 1
        params = SamplingParams(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=sampling.max_new_tokens,
            stop=list(sampling.stop) or None,
            seed=seed,
            output_kind=RequestOutputKind.FINAL_ONLY,
            skip_clone=True,  # each request has its own: a deep copy of it is a tenth of the cycle
        )
        tokens: Any = {"prompt_token_ids": self.tokens(prompt, sampling)}
        self.llm.llm_engine.add_request(str(self._request), tokens, params)
        return str(self._request)

    def _step(self, waiting: dict[str, int]) -> Finished:
        """One step of the engine; what finished in it is no longer waited for."""
        finished = []
        for output in self.llm.llm_engine.step():
            name = output.request_id.split("-")[0]
            if output.finished and name in waiting:
                one: Any = output.outputs[0]  # pyright: ignore[reportIndexIssue]
                reason = "length" if one.finish_reason == "length" else "stop"
                finished.append(
                    (waiting.pop(name), Completion(one.text, reason, len(one.token_ids)))
                )
        return finished

    def tokens(self, prompt: str, sampling: Sampling) -> list[int]:
        """The prompt's tokens, made once; their end where they are more than the model reads."""
        if prompt not in self._tokens:
            if len(self._tokens) >= MAX_PROMPTS:
                self._tokens.clear()
            self._tokens[prompt] = self.llm.get_tokenizer().encode(prompt)
        limit = prompt_limit(self.llm.model_config.max_model_len, sampling.max_new_tokens)
        return self._tokens[prompt][-limit:]

    def wrote(self, live: torch.Tensor) -> None:
        for copy in self._packed.get(live.data_ptr(), ()):
            copy.forget()

    def reset(self) -> None:
        if not self.llm.reset_prefix_cache():
            raise RuntimeError("the prefix cache was not reset: a request is still alive")


@final
class TransformersEngine(LiveEngine):
    """Plain transformers, one prompt at a time: slow, and the oracle of the other one."""

    def __init__(self, checkpoint: Checkpoint, seed: int) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer, __version__

        self.name = f"transformers {__version__}"
        self.checkpoint, self.dtype = checkpoint, base_dtype(checkpoint)
        self.tokenizer = AutoTokenizer.from_pretrained(checkpoint.folder)
        model: Any = AutoModelForCausalLM.from_pretrained(checkpoint.folder, dtype=self.dtype)
        self.model = model.eval()

    def placement(self) -> Placement:
        live = dict(self.model.state_dict())
        segments = {}
        for name in self.checkpoint.names:
            tensor = live[name]
            stride, shape = tuple(tensor.stride()), tuple(tensor.shape)
            segments[name] = (Segment(name, name, shape, stride, 0, stride, 0),)
        return Placement(segments, live)

    @torch.no_grad()
    def generate(
        self,
        prompts: Sequence[str],
        sampling: Sampling,
        seeds: Sequence[int] | None,
        done: Progress,
        feed: Feed | None = None,
    ) -> list[Completion | None]:
        found: list[Completion | None] = []
        waiting = list(prompts)
        while len(found) < len(waiting):
            number = len(found)
            if seeds:
                torch.manual_seed(seeds[number])
            completion = self._one(waiting[number], sampling)
            found.append(completion)
            done(len(found))
            if feed:
                more = feed([(number, completion)])
                if more is None:
                    break
                waiting += more
        return [*found, *[None] * (len(waiting) - len(found))]

    def _one(self, prompt: str, sampling: Sampling) -> Completion:
        limit = prompt_limit(context_of(self.checkpoint), sampling.max_new_tokens)
        x = self.tokenizer(prompt, return_tensors="pt", return_token_type_ids=False)
        x = {key: value[:, -limit:] for key, value in x.items()}
        hot = sampling.temperature > 0
        warmth = {"temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0}
        y = self.model.generate(
            **x,
            do_sample=hot,
            max_new_tokens=sampling.max_new_tokens,
            pad_token_id=self.tokenizer.pad_token_id or 0,
            **(warmth if hot else {}),
        )
        new = y[0, x["input_ids"].shape[1] :]
        text = self.tokenizer.decode(new, skip_special_tokens=True)
        cuts = [text.find(stop) for stop in sampling.stop if stop in text]
        full = len(new) >= sampling.max_new_tokens and not cuts
        return Completion(
            text[: min(cuts, default=len(text))], "length" if full else "stop", len(new)
        )

    def reset(self) -> None:
        """Nothing is kept between prompts."""
        return None
