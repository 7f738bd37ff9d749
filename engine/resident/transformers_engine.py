"""A live engine on plain transformers: slow, and the definition of what vLLM must answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import torch

from ..weights.checkpoint import Checkpoint
from .engine import LiveEngine
from .messages import Completion, EngineSettings, Feed, Progress, Sampling
from .placement import Placement, Segment
from .sizes import base_dtype, context_of, prompt_limit


@final
class TransformersEngine(LiveEngine):
    """Answers one prompt at a time. It is slow, and the oracle for vLLM's answers."""

    def __init__(self, checkpoint: Checkpoint, settings: EngineSettings) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer, __version__

        self.name = f"transformers {__version__}"
        self.checkpoint = checkpoint
        self.context = context_of(checkpoint, settings.max_model_len)
        self.tokenizer = AutoTokenizer.from_pretrained(checkpoint.folder)
        model: Any = AutoModelForCausalLM.from_pretrained(
            checkpoint.folder, dtype=base_dtype(checkpoint)
        )
        self.model = model.eval()

    def placement(self) -> Placement:
        """Return where tensors live: each checkpoint tensor is one whole parameter."""
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
        """Answer one prompt, cut to its last tokens where it is too long."""
        limit = prompt_limit(self.context, sampling.max_new_tokens)
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
        """Do nothing, as nothing is kept between prompts."""
        return None
