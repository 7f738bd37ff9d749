"""Finds an output head that is one tensor with the embedding, though the files store it twice.

Loaders make one tensor of the two again, so they are merged and swapped as one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from .checkpoint import Checkpoint
from .repeats import same_whole

HEAD = re.compile(r"((^|\.)(lm_head|embed_out)|^output)\.weight$")
EMBEDDING = re.compile(
    r"(^|\.)(embed_tokens|wte|embed_in|word_embeddings|tok_embeddings|embeddings?)\.weight$"
)
# Kinds of models that tie them where the config says nothing; read off transformers 5.19.
TIED_KINDS = frozenset(
    "biogpt bloom cohere cohere2 cohere2_moe cpmant ctrl ernie4_5 ernie4_5_moe falcon falcon_mamba gemma "
    "gemma2 gemma3 gemma3_text gemma3n gemma3n_text gemma4 gemma4_text gpt-sw3 gpt2 gpt_bigcode gpt_neo "
    "gpt_neox_japanese granite_swa jetmoe lfm2 lfm2_moe mamba minicpm3 mpt openai-gpt opt recurrent_gemma "
    "smollm3 starcoder2 vaultgemma xglm zamba zamba2".split()
)


def stored_ties(checkpoint: Checkpoint) -> dict[str, str]:
    """Return the embedding of each head that repeats it, bit for bit, where the config ties them."""
    if not is_tied(checkpoint.config):
        return {}
    entries = checkpoint.entries
    return {h: e for h, e in heads(checkpoint).items() if same_whole(entries[h], entries[e])}


def is_tied(config: Mapping[str, object]) -> bool:
    """Tell whether a model with this config makes one tensor of head and embedding."""
    inner = config.get("text_config")
    for one in (config, inner if isinstance(inner, Mapping) else {}):
        if isinstance(said := one.get("tie_word_embeddings"), bool):
            return said
    return config.get("model_type") in TIED_KINDS


def heads(checkpoint: Checkpoint) -> dict[str, str]:
    """Return the embedding of each stored head that has its shape and dtype."""
    embeddings = [name for name in checkpoint.names if EMBEDDING.search(name)]
    return {
        head: name
        for head in checkpoint.names
        if HEAD.search(head)
        for name in embeddings
        if checkpoint.shape(head) == checkpoint.shape(name)
        and checkpoint.entries[head].dtype == checkpoint.entries[name].dtype
    }


def own_head(base: Checkpoint, expert: Checkpoint, ties: Mapping[str, str]) -> str:
    """Return an expert's head that is not its embedding, where the base's is; else "".

    `ties` are the base's. A base that stores no head has a tied one.
    """
    if not ties and any(HEAD.search(name) for name in base.names):
        return ""
    stored = heads(expert)
    apart = [h for h, e in stored.items() if not same_whole(expert.entries[h], expert.entries[e])]
    alone = [n for n in expert.names if HEAD.search(n) and n not in stored]
    return next(iter([*apart, *alone]), "")
