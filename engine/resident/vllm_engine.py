"""A live engine on vLLM, inside the worker's process."""

from __future__ import annotations

import os
import re
import traceback
from collections.abc import Mapping, Sequence
from typing import Any, final

import torch

from ..errors import UsageError
from ..weights.cache import BLOCK_TOKENS
from ..weights.checkpoint import Checkpoint
from .decoding import described, encode, ends_of
from .engine import LiveEngine, metas
from .load_faults import why
from .messages import Completion, EngineSettings, Feed, Finished, Progress, Sampling
from .parts import Parts
from .placement import Placement, Unplaceable, error_in_words, record
from .runnable import check_dense
from .sizes import base_dtype, cache_bytes, context_of, prompt_limit
from .transformers_engine import fault_of, load_config

# The worker interface of these releases is used: from the first, to below the second.
FIRST_VLLM, AFTER_VLLM = (0, 26), (0, 34)
# The tokens of at most this many prompts are kept.
MAX_PROMPTS = 20_000
VLLM_ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_PLUGINS": "",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    # It takes no request that is greedy or has a seed, as all of ours; its warm-up compiles kernels by nvcc.
    "VLLM_USE_FLASHINFER_SAMPLER": "0",
}
# The model must be in this very process, also where the user's shell says otherwise.
ALWAYS_SET = ("VLLM_ENABLE_V1_MULTIPROCESSING",)


def to_set(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables to set before vLLM is imported: what the user has set stays, but for ALWAYS_SET."""
    names = (name for name in VLLM_ENVIRONMENT if name in ALWAYS_SET or name not in environment)
    return {name: VLLM_ENVIRONMENT[name] for name in names}


def check_version(version: str) -> None:
    """Raise UsageError where vLLM is of a release that was never tried."""
    numbers = tuple(int(word) for word in re.findall(r"\d+", version)[:2])
    if not FIRST_VLLM <= numbers < AFTER_VLLM:
        first, after = (".".join(map(str, v)) for v in (FIRST_VLLM, AFTER_VLLM))
        raise UsageError(
            f"vLLM {version} is not supported: install one from {first} up to below {after}, "
            "or give --engine transformers"
        )


def full_config(checkpoint: Checkpoint) -> dict[str, Any] | None:
    """Return config.json with the defaults of its kind of model; None where transformers lacks the kind."""
    try:
        return load_config(checkpoint).to_dict()
    except Exception:
        return None


def reason_of(error: BaseException) -> str:
    """Return what vLLM's error says, without pydantic's frame around it."""
    found = re.search(r"Value error, (.*?)(?: Supported architectures| \[type=|\n|$)", str(error))
    return found[1][:300].rstrip(".") if found else error_in_words(error)


def options(checkpoint: Checkpoint, settings: EngineSettings) -> dict[str, Any]:
    """Return what vLLM is started with. UsageError where context or memory do not fit."""
    context = context_of(checkpoint, settings.max_model_len, full_config(checkpoint))
    num_seqs, on_gpu = settings.max_num_seqs, torch.cuda.is_available()
    return {
        "dtype": base_dtype(checkpoint),
        "enforce_eager": not on_gpu,
        "max_model_len": context,
        "max_num_seqs": num_seqs,
        # A card reads a longer prompt in pieces: activations of more tokens at once are in no plan.
        "max_num_batched_tokens": settings.max_num_batched_tokens
        if on_gpu
        else max(settings.max_num_batched_tokens, context),
        # A prompt that is read in pieces takes back what its own generator drew for each piece, which
        # vLLM does by an offset, and the CPU's generators have none. So it is read whole there.
        "enable_chunked_prefill": on_gpu,
        "kv_cache_memory_bytes": cache_bytes(checkpoint, context, num_seqs, settings.cache_bytes),
        **(card_options() if on_gpu else {}),
        # It would choose kernels by their time, so two workers could add numbers in another order.
        "enable_flashinfer_autotune": False,
        "block_size": BLOCK_TOKENS,
        # vLLM's own defaults, and nothing of generation_config.json.
        "generation_config": "vllm",
        "worker_extension_cls": f"{__package__}.vllm_extension.SwapExtension",
        "seed": settings.seed,
    }


def card_options() -> dict[str, Any]:
    """Return how much of the card vLLM must find free when it starts: nearly all that is free now.

    Its default is 0.92 of the card, even where the bytes of the cache are given: a second engine would
    not start, nor one beside somebody else's process.
    """
    free, total = torch.cuda.mem_get_info()
    return {"gpu_memory_utilization": 0.95 * free / total}


@final
class VllmEngine(LiveEngine):
    """vLLM inside this process; without compiled graphs (eager mode) where there is no GPU."""

    advice = "; give --engine transformers"

    def __init__(self, checkpoint: Checkpoint, settings: EngineSettings) -> None:
        os.environ.update(to_set(os.environ))
        from vllm import LLM
        from vllm import __version__ as version

        check_version(version)
        if not torch.cuda.is_available():
            check_dense(checkpoint)
        self.name = f"vllm {version}"
        self.checkpoint, self.dtype = checkpoint, base_dtype(checkpoint)
        words = options(checkpoint, settings)
        try:
            self.llm = LLM(str(checkpoint.folder), **words)
        except (torch.AcceleratorError, SyntaxError):
            # A fault of this card, or a file of vLLM's compile cache that another process was writing. The worker
            # is started anew, and the others go on.
            raise
        except Exception as error:
            traceback.print_exc()
            # Advice to take transformers is given where it would help.
            if fault := fault_of(checkpoint):
                reason = why(fault.part, fault.error, checkpoint.config)
            else:
                reason = why("model", error, checkpoint.config, reason_of(error)) + self.advice
            raise UsageError(f"{checkpoint.folder}: {self.name} cannot load it: {reason}") from None
        self.ends = ends_of(checkpoint, self.llm.get_tokenizer())
        self.decoding = described(self.ends)
        self._request = 0
        # Tokens of the prompts that were asked before.
        self._tokens: dict[str, list[int]] = {}
        # Packed copies of weights, by the weight's address.
        self._packed: dict[int, list[Any]] = {}

    def placement(self, parts: Parts) -> Placement:
        """Record where tensors live, and find the packed copies of weights."""
        (model,) = self.llm.collective_rpc("selfdev_model")
        for module in model.modules():
            if hasattr(linear := getattr(module, "cpu_linear", None), "forget"):
                self._packed.setdefault(module.weight.data_ptr(), []).append(linear)
        dtype = getattr(torch, self.dtype)
        try:
            return record(model, metas(self.checkpoint, parts.own, dtype))
        except Unplaceable:
            if not parts.ties:
                raise
        # This kind of model has two tensors for what is one in the files.
        names = (*parts.own, *parts.ties)
        return record(model, metas(self.checkpoint, names, dtype)).with_ties(parts.ties)

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
        """Add a request to the engine, and return its id."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        self._request += 1
        params = SamplingParams(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=sampling.max_new_tokens,
            stop=list(sampling.stop) or None,
            stop_token_ids=self.ends,
            seed=seed,
            output_kind=RequestOutputKind.FINAL_ONLY,
            # Each request has its own parameters, so vLLM need not copy them: a deep copy takes a
            # tenth of the cycle.
            skip_clone=True,
        )
        tokens: Any = {"prompt_token_ids": self.tokens(prompt, sampling)}
        self.llm.llm_engine.add_request(str(self._request), tokens, params)
        return str(self._request)

    def _step(self, waiting: dict[str, int]) -> Finished:
        """Run one step of the engine, and return what finished; `waiting` loses those prompts."""
        finished = []
        for output in self.llm.llm_engine.step():
            name = output.request_id.split("-")[0]
            if output.finished and name in waiting:
                one: Any = output.outputs[0]  # pyright: ignore[reportIndexIssue]
                ended = "stop" if isinstance(one.stop_reason, str) else "end"
                reason = "length" if one.finish_reason == "length" else ended
                finished.append(
                    (waiting.pop(name), Completion(one.text, reason, len(one.token_ids)))
                )
        return finished

    def tokens(self, prompt: str, sampling: Sampling) -> list[int]:
        """Return a prompt's tokens, made once and kept.

        Only the last ones are returned where they are more than `prompt_limit`.
        """
        if prompt not in self._tokens:
            if len(self._tokens) >= MAX_PROMPTS:
                self._tokens.clear()
            self._tokens[prompt] = encode(self.llm.get_tokenizer(), prompt)
        limit = prompt_limit(self.llm.model_config.max_model_len, sampling.max_new_tokens)
        return self._tokens[prompt][-limit:]

    def wrote(self, live: torch.Tensor) -> None:
        """Forget the packed copies of this weight."""
        for copy in self._packed.get(live.data_ptr(), ()):
            copy.forget()

    def reset(self) -> None:
        """Reset the prefix cache. RuntimeError where a request is still alive."""
        if not self.llm.reset_prefix_cache():
            raise RuntimeError("the prefix cache was not reset: a request is still alive")
