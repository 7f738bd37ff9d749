"""A live engine on plain transformers: slow, and the definition of what vLLM must answer."""

from __future__ import annotations

import json
import os
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, final

import torch

from ..errors import UsageError
from ..weights.checkpoint import Checkpoint
from ..weights.files import INDEX, SINGLE
from .decoding import described, encode, ends_of
from .engine import LiveEngine
from .load_faults import why
from .messages import Completion, EngineSettings, Feed, Progress, Sampling
from .parts import Parts, place_by_name
from .placement import Placement
from .sizes import base_dtype, context_of, prompt_limit


@final
class TransformersEngine(LiveEngine):
    """Answers one prompt at a time. It is slow, and the oracle for vLLM's answers."""

    def __init__(self, checkpoint: Checkpoint, settings: EngineSettings) -> None:
        from transformers import GenerationConfig, __version__

        self.name = f"transformers {__version__}"
        self.checkpoint = checkpoint
        try:
            self.tokenizer, self.model = load_parts(checkpoint, lambda _: load_model(checkpoint))
        except Unloadable as fault:
            traceback.print_exc()
            reason = why(fault.part, fault.error, checkpoint.config)
            raise UsageError(f"{checkpoint.folder}: {self.name} cannot load it: {reason}") from None
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        for parameter in self.model.parameters():
            # Loaded weights may be pages of the file itself, which somebody may cut off.
            parameter.data = parameter.data.to(self.device, copy=True)
        # Buffers come along.
        self.model.to(self.device)
        config = self.model.config.to_dict()
        self.context = context_of(checkpoint, settings.max_model_len, config)
        self.ends = ends_of(checkpoint, self.tokenizer)
        self.decoding = described(self.ends)
        pad = self.tokenizer.pad_token_id or 0
        self.model.generation_config = GenerationConfig(
            eos_token_id=self.ends or None, pad_token_id=pad
        )

    def placement(self, parts: Parts) -> Placement:
        """Find where tensors live: by name, or by their values where the loader changed the layout."""
        live, parameters = dict(self.model.state_dict()), dict(self.model.named_parameters())
        prefix = self.model.base_model_prefix
        return place_by_name(self.checkpoint, parts, live, set(parameters), prefix)

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
        kept = encode(self.tokenizer, prompt)[-limit:]
        tokens = torch.tensor([kept], device=self.device)
        most = max(1, min(sampling.max_new_tokens, self.context - tokens.shape[1]))
        hot = sampling.temperature > 0
        warmth = {"temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0}
        y = self.model.generate(
            input_ids=tokens,
            attention_mask=torch.ones_like(tokens),
            do_sample=hot,
            max_new_tokens=most,
            **(warmth if hot else {}),
        )
        new = y[0, tokens.shape[1] :].tolist()
        ended = bool(new) and new[-1] in self.ends
        text = self.tokenizer.decode(new[:-1] if ended else new, skip_special_tokens=True)
        cuts = [text.find(stop) for stop in sampling.stop if stop in text]
        full = len(new) >= most and not ended
        reason = "stop" if cuts else "length" if full else "end"
        return Completion(text[: min(cuts, default=len(text))], reason, len(new))

    def reset(self) -> None:
        """Do nothing, as nothing is kept between prompts."""
        return None


def load_config(checkpoint: Checkpoint) -> Any:
    """Return config.json with the defaults of its kind of model. Code of the folder is not used."""
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(checkpoint.folder, trust_remote_code=False)


def load_tokenizer(checkpoint: Checkpoint) -> Any:
    """Return the tokenizer as transformers reads it. Code of the folder is not used."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(checkpoint.folder, trust_remote_code=False)


def load_model(checkpoint: Checkpoint) -> Any:
    """Return the model as transformers reads it. Pickles and code of the folder are not used."""
    from transformers import AutoModelForCausalLM

    with with_index(checkpoint) as folder:
        model: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=base_dtype(checkpoint),
            use_safetensors=True,
            trust_remote_code=False,
        )
    return model.eval()


@contextmanager
def with_index(checkpoint: Checkpoint) -> Iterator[Path]:
    """Yield the model's folder; for shards without an index one of links to it, with the index.

    transformers finds no shards without one; vLLM reads all files.
    """
    if any(os.path.lexists(checkpoint.folder / name) for name in (SINGLE, INDEX)):
        yield checkpoint.folder
        return
    with tempfile.TemporaryDirectory(prefix="selfdev-shards-") as made:
        for path in checkpoint.folder.iterdir():
            (Path(made) / path.name).symlink_to(path.absolute())
        where = {name: entry.file.name for name, entry in checkpoint.entries.items()}
        (Path(made) / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": where}))
        yield Path(made)


class Unloadable(Exception):
    """A part of a model cannot be loaded: "config", "tokenizer" or "model"."""

    def __init__(self, part: str, error: Exception) -> None:
        super().__init__(part)
        self.part, self.error = part, error


def load_parts(checkpoint: Checkpoint, model_of: Callable[[Any], Any]) -> tuple[Any, Any]:
    """Return the tokenizer, and the model that `model_of` makes of the config. Raises Unloadable."""
    part = "config"
    try:
        config = load_config(checkpoint)
        part = "tokenizer"
        tokenizer = load_tokenizer(checkpoint)
        part = "model"
        return tokenizer, model_of(config)
    except Exception as error:
        raise Unloadable(part, error) from error


def fault_of(checkpoint: Checkpoint) -> Unloadable | None:
    """Return which part of a model transformers cannot load, and why. No weights are read."""
    try:
        load_parts(checkpoint, model_on_meta)
    except Unloadable as fault:
        return fault
    return None


def model_on_meta(config: Any) -> Any:
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, trust_remote_code=False)
