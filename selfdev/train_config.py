"""TRL's and peft's settings of one training stage, in one of its processes."""

from __future__ import annotations

import os
import tempfile
from typing import Any

import torch
from peft import LoraConfig
from trl.trainer.dpo_config import DPOConfig

from ..engine.weights.checkpoint import Checkpoint
from ..engine.weights.shapes import shapes_of
from ..engine.weights.training import recomputes
from .holdout import steps_of
from .train import LOG_EVERY

# The number of ranks, and which one this is on its machine, as the launcher says.
NUM_RANKS, RANK = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("LOCAL_RANK", "0"))


def losses_of(settings: dict[str, Any]) -> dict[str, float]:
    """TRL's losses of a stage with their weights: DPO's, the likelihood of the chosen, or both."""
    if settings["learn"] == "sft":
        return {"sft": 1.0}
    weight = settings["dpo"]["sft_weight"]
    return {"sigmoid": 1.0, "sft": weight} if weight > 0 else {"sigmoid": 1.0}


def dpo_config(settings: dict[str, Any], longest: int, watched: bool) -> DPOConfig:
    """TRL's settings of a stage; `longest` is the number of tokens of the longest program with its prompt."""
    dpo, seed = settings["dpo"], settings["seed"]
    batch = dpo["batch_size"] * dpo["accumulation"]
    steps = steps_of(len(settings["pairs"]), batch, dpo["max_epochs"], dpo["max_steps"])
    gpu, losses = torch.cuda.is_available(), losses_of(settings)
    shapes = shapes_of(Checkpoint.open(settings["generator"]))
    backend = "nccl" if gpu else "gloo"
    return DPOConfig(
        output_dir=tempfile.mkdtemp(),
        learning_rate=dpo["learning_rate"],
        beta=dpo["beta"],
        max_steps=steps,
        gradient_accumulation_steps=dpo["accumulation"],
        per_device_train_batch_size=dpo["batch_size"] // NUM_RANKS,
        per_device_eval_batch_size=dpo["batch_size"] // NUM_RANKS,
        lr_scheduler_type="constant_with_warmup",
        warmup_steps=dpo["warmup_steps"],
        loss_type=list(losses),
        loss_weights=list(losses.values()),
        f_divergence_type="forward_kl" if dpo["forward_kl"] else "reverse_kl",
        max_length=longest,
        precompute_ref_log_probs=not gpu and NUM_RANKS == 1,
        gradient_checkpointing=gpu or recomputes(shapes, 2 * dpo["batch_size"] * longest),
        bf16=gpu,
        use_cpu=not gpu,
        ddp_backend=backend if NUM_RANKS > 1 else None,
        seed=seed,
        data_seed=seed,
        logging_steps=LOG_EVERY,
        # Otherwise what is no number is logged as the mean of the steps before it, and goes unseen.
        logging_nan_inf_filter=False,
        report_to="none",
        save_strategy="no",
        eval_strategy="steps" if watched else "no",
        eval_steps=dpo["eval_steps"],
        # `evaluate` before `train` would leave the ranks without a common gradient: transformers then
        # takes the model as it was prepared for evaluation, without DistributedDataParallel.
        eval_on_start=watched,
        disable_tqdm=True,
    )


def lora_config(dpo: dict[str, Any]) -> LoraConfig:
    return LoraConfig(
        r=dpo["lora_rank"],
        lora_alpha=dpo["lora_alpha"],
        lora_dropout=0.0,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
