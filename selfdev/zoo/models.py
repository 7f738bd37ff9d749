"""What models of the zoos share: an architecture, a tokenizer wrapper, the context of their products."""

from __future__ import annotations

import torch
from tokenizers import Tokenizer
from transformers import MistralConfig, MistralForCausalLM, PreTrainedTokenizerFast

from .training import BOS, EOS, PAD, SPECIALS


def wrapped(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """The tokenizer as transformers uses it, with SPECIALS as pad, begin and end."""
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        **dict(zip(("pad_token", "bos_token", "eos_token"), SPECIALS, strict=True)),
        clean_up_tokenization_spaces=False,
    )


def new_mistral(
    *,
    vocab_size: int,
    hidden_size: int,
    num_heads: int,
    num_key_value_heads: int,
    max_position_embeddings: int,
    tie_word_embeddings: bool,
) -> MistralForCausalLM:
    """A Mistral of four layers with 512 units each; its weights are drawn from torch's seed."""
    config = MistralConfig(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=num_heads,
        num_key_value_heads=num_key_value_heads,
        head_dim=32,
        max_position_embeddings=max_position_embeddings,
        sliding_window=None,
        tie_word_embeddings=tie_word_embeddings,
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=EOS,
    )
    return MistralForCausalLM(config)


def half_products() -> torch.autocast:
    """Context in which matrix products are computed in bf16, if the processor can do that.

    It takes two thirds of the time. Weights, their gradients and AdamW's moments stay float32.
    """
    return torch.autocast("cpu", torch.bfloat16, enabled=torch.cpu._is_avx512_bf16_supported())
