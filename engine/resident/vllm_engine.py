"""A live engine on vLLM, inside the worker's process."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Any, final

import torch

from ..errors import UsageError
from ..weights.checkpoint import Checkpoint
from .engine import LiveEngine, metas
from .messages import Completion, EngineSettings, Feed, Finished, Progress, Sampling
from .placement import Placement, record
from .sizes import BLOCK_SIZE, base_dtype, cache_bytes, context_of, prompt_limit

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
}


def check_version(version: str) -> None:
    """Raise UsageError where vLLM is of a release that was never tried."""
    numbers = tuple(int(word) for word in re.findall(r"\d+", version)[:2])
    if not FIRST_VLLM <= numbers < AFTER_VLLM:
        first, after = (".".join(map(str, v)) for v in (FIRST_VLLM, AFTER_VLLM))
        raise UsageError(
            f"vLLM {version} is not supported: install one from {first} up to below {after}, "
            "or give --engine transformers"
        )


def check_dense(checkpoint: Checkpoint) -> None:
    """Raise UsageError where loaded weights do not stay as the checkpoint has them.

    Such weights cannot be swapped.
    """
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


@final
class VllmEngine(LiveEngine):
    """vLLM inside this process; without compiled graphs (eager mode) where there is no GPU."""

    def __init__(self, checkpoint: Checkpoint, settings: EngineSettings) -> None:
        os.environ.update({k: v for k, v in VLLM_ENVIRONMENT.items() if k not in os.environ})
        from vllm import LLM
        from vllm import __version__ as version

        check_version(version)
        check_dense(checkpoint)
        self.name = f"vllm {version}"
        self.checkpoint, self.dtype = checkpoint, base_dtype(checkpoint)
        context = context_of(checkpoint, settings.max_model_len)
        num_seqs = settings.max_num_seqs
        self.llm = LLM(
            str(checkpoint.folder),
            dtype=self.dtype,
            enforce_eager=not torch.cuda.is_available(),
            max_model_len=context,
            max_num_seqs=num_seqs,
            kv_cache_memory_bytes=cache_bytes(checkpoint, context, num_seqs, settings.memory_bytes),
            block_size=BLOCK_SIZE,
            worker_extension_cls=f"{__package__}.vllm_extension.SwapExtension",
            seed=settings.seed,
        )
        self._request = 0
        # Tokens of the prompts that were asked before.
        self._tokens: dict[str, list[int]] = {}
        # Packed copies of weights, by the weight's address.
        self._packed: dict[int, list[Any]] = {}

    def placement(self) -> Placement:
        """Record where tensors live, and find the packed copies of weights."""
        (model,) = self.llm.collective_rpc("selfdev_model")
        for module in model.modules():
            if hasattr(linear := getattr(module, "cpu_linear", None), "forget"):
                self._packed.setdefault(module.weight.data_ptr(), []).append(linear)
        return record(model, metas(self.checkpoint, getattr(torch, self.dtype)))

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
                reason = "length" if one.finish_reason == "length" else "stop"
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
            self._tokens[prompt] = self.llm.get_tokenizer().encode(prompt)
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
