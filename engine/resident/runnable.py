"""Refuses by config and headers what an engine could not run. Nothing here loads torch."""

from __future__ import annotations

import re
from pathlib import Path

from ..errors import UsageError
from ..weights.checkpoint import Checkpoint
from ..weights.companion_files import PARSED, check_json
from ..weights.disguises import disguise_of
from ..weights.files import ADAPTER
from ..weights.filled import check_filled
from ..weights.headers import shown
from ..weights.locate import check_utf8
from ..weights.plain import check_config, check_plain
from ..weights.small_file import check_regular, read_text
from .known_kinds import check_known, check_names
from .sizes import base_dtype, context_of

# Names that configs have for the number of experts in a layer.
MIXTURES = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
# Files of the drivers of NVIDIA, AMD and WSL.
GPUS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
# Files that an engine parses.
READ = ("config.json", "tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json")
# Files that hold the words of a tokenizer.
WORDS = re.compile(r"(tokenizer\.json|vocab|spiece|sentencepiece|tekken)|.*\.(model|tiktoken)$")
# Classes of transformers whose heads do something else than to go on with a text.
NO_GENERATOR = re.compile(
    r"For(MaskedLM|PreTraining|NextSentencePrediction|SequenceClassification|TokenClassification|"
    r"QuestionAnswering|MultipleChoice|ImageClassification|SequenceRegression|RewardModel)$"
)
# Tokenizers of bytes or characters, which have no words; only their config names them.
BYTE_TOKENIZERS = ("ByT5Tokenizer", "CanineTokenizer", "PerceiverTokenizer")


def check_runnable(checkpoint: Checkpoint, engine: str, max_model_len: int | None = None) -> int:
    """Return the tokens of the model's context.

    UsageError where the engine could not load the model, or would load something else.
    """
    check_utf8(checkpoint.folder)
    check_plain("", checkpoint)
    check_config(checkpoint)
    check_known(checkpoint, engine)
    check_names(checkpoint)
    check_filled(checkpoint)
    check_generates(checkpoint)
    check_tokenizer(checkpoint.folder)
    files = sorted(checkpoint.folder.iterdir())
    for path in files:
        if ADAPTER.match(path.name):
            raise UsageError(
                f"{path}: an adapter beside the weights, which engines would load over them; move it "
                "out of the folder, or merge it into them first"
            )
        if path.name in (*READ, *PARSED) or (WORDS.match(path.name) and not path.is_dir()):
            check_regular(path)
            if what := disguise_of(path):
                raise UsageError(f"{path}: is {what}")
        if path.name in PARSED:
            check_json(path)
    base_dtype(checkpoint)
    if engine == "vllm" and not any(Path(gpu).exists() for gpu in GPUS):
        check_dense(checkpoint)
    return context_of(checkpoint, max_model_len)


def check_generates(checkpoint: Checkpoint) -> None:
    """Raise UsageError where config.json says that the model does not go on with a text."""
    config, path = checkpoint.config, checkpoint.folder / "config.json"
    classes = config.get("architectures")
    named = [str(one) for one in classes] if isinstance(classes, list) else []
    if named and all(NO_GENERATOR.search(one) for one in named):
        what = f"is a {shown(named[0])}"
    elif config.get("is_encoder_decoder") is True and not any("CausalLM" in one for one in named):
        what = f"is a {shown(named[0])}, an encoder and a decoder" if named else "has an encoder"
    else:
        return
    raise UsageError(
        f"{path}: {what}: no model that goes on with a text (a causal language model), so it cannot be asked"
    )


def check_tokenizer(folder: Path) -> None:
    """Raise UsageError where a model's folder has no tokenizer."""
    if any(WORDS.match(path.name) for path in folder.iterdir()):
        return
    config = folder / "tokenizer_config.json"
    if config.is_file() and any(name in read_text(config) for name in BYTE_TOKENIZERS):
        return
    raise UsageError(
        f"{folder}: has no tokenizer (tokenizer.json, tokenizer.model or the like), so nothing can be "
        "asked: copy the tokenizer of the model that it was made from into the folder"
    )


def check_dense(checkpoint: Checkpoint) -> None:
    """Raise UsageError for a mixture of experts, which vLLM lays out anew on the CPU."""
    experts = [key for key in MIXTURES if checkpoint.config.get(key)]
    if experts:
        raise UsageError(
            f"{checkpoint.folder}: is a mixture of experts ({experts[0]}): on the CPU vLLM lays "
            "such weights out anew, so they cannot be swapped; give --engine transformers"
        )
