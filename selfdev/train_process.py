"""The process of one training stage: DPO by TRL.

    python -m selfdev_engine.selfdev.train_process SETTINGS.json

Started by `torch.distributed.run` it is one of several processes ("ranks"), each with a card: a batch
is divided among them, their gradients are averaged, and the first one writes. Their preference loss
is that of one process. TRL's likelihood term is not: it is a mean over the tokens of a rank, so
short programs of one rank weigh more than long ones of another.

Settings choose where this differs from DPO as published (arXiv 2305.18290): LoRA on all linear
layers (as in arXiv 2410.15639), a likelihood term on the chosen programs, a constant learning rate
after a warm-up. The reference model is the generator without the adapter; a single process without a
card computes its log-probabilities once (with cards TRL would hash all weights for that, and several
ranks would look for a file that one of them wrote). The checkpoint at `out` has the adapter merged in, and no pickle files.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any, TextIO

import datasets
import torch
import transformers
from peft import LoraConfig
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedTokenizerBase,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer_callback import PrinterCallback, ProgressCallback
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer

from ..engine.sandbox.guard import die_with_parent

LOG_EVERY = 5
# The number of ranks, and which one this is on its machine, as the launcher says.
NUM_RANKS, RANK = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("LOCAL_RANK", "0"))


def say(message: dict[str, Any], stream: TextIO) -> None:
    """Write one line of JSON for the driver."""
    stream.write(json.dumps(message) + "\n")
    stream.flush()


class Reporter(TrainerCallback):
    """Reports every step to the driver."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        say({"step": state.global_step, "total": state.max_steps}, self.stream)


def dataset_of(prompt: str, pairs: list[list[str]]) -> datasets.Dataset:
    table = [{"prompt": prompt, "chosen": c, "rejected": r} for c, r in pairs]
    return datasets.Dataset.from_list(table)


def measure(
    tokenizer: PreTrainedTokenizerBase, prompt: str, pairs: list[list[str]]
) -> tuple[int, int]:
    """Tokens of the longest prompt + completion, and the most tokens that TRL leaves out.

    TRL leaves out tokens at the end of the prompt that merge with the start of a completion.
    """
    head = tokenizer(prompt)["input_ids"]
    longest = left_out = 0
    for text in {text for pair in pairs for text in pair}:
        whole = tokenizer(prompt + text)["input_ids"]
        pairwise = enumerate(zip(head, whole, strict=False))
        shared = next((i for i, (x, y) in pairwise if x != y), len(head))
        longest, left_out = max(longest, len(whole) + 1), max(left_out, len(head) - shared)
    return longest, left_out


def dpo_config(dpo: dict[str, Any], longest: int, seed: int) -> DPOConfig:
    """TRL's settings of a stage; `longest` is the number of tokens of the longest pair."""
    gpu, sft = torch.cuda.is_available(), dpo["sft_weight"] > 0
    backend = "nccl" if gpu else "gloo"
    return DPOConfig(
        output_dir=tempfile.mkdtemp(),
        learning_rate=dpo["learning_rate"],
        beta=dpo["beta"],
        max_steps=dpo["max_steps"],
        per_device_train_batch_size=dpo["batch_size"] // NUM_RANKS,
        per_device_eval_batch_size=dpo["batch_size"] // NUM_RANKS,
        lr_scheduler_type="constant_with_warmup",
        warmup_steps=dpo["warmup_steps"],
        loss_type=["sigmoid", "sft"] if sft else ["sigmoid"],
        loss_weights=[1.0, dpo["sft_weight"]] if sft else None,
        max_length=longest,
        precompute_ref_log_probs=not gpu and NUM_RANKS == 1,
        gradient_checkpointing=gpu,
        bf16=gpu,
        use_cpu=not gpu,
        ddp_backend=backend if NUM_RANKS > 1 else None,
        seed=seed,
        data_seed=seed,
        logging_steps=LOG_EVERY,
        report_to="none",
        save_strategy="no",
        eval_strategy="no",
        # `evaluate` before `train` would leave the ranks without a common gradient: transformers then
        # takes the model as it was prepared for evaluation, without DistributedDataParallel.
        eval_on_start=True,
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


def load_model(folder: str) -> Any:
    """Load the generator: as bfloat16 straight to this rank's card, or as float32 where there is none."""
    if torch.cuda.is_available():
        words: dict[str, Any] = {"dtype": torch.bfloat16, "device_map": {"": RANK}}
    else:
        words = {"dtype": torch.float32}
    return AutoModelForCausalLM.from_pretrained(folder, **words)


def trainer_of(
    settings: dict[str, Any], stream: TextIO
) -> tuple[Any, PreTrainedTokenizerBase, int]:
    torch.manual_seed(settings["seed"])
    dpo = settings["dpo"]
    tokenizer = AutoTokenizer.from_pretrained(settings["generator"])
    model = load_model(settings["generator"])
    prompt, pairs = settings["prompt"], settings["pairs"]
    held_out = settings["held_out"] or pairs
    longest, left_out = measure(tokenizer, prompt, pairs + held_out)
    trainer = DPOTrainer(
        model=model,
        args=dpo_config(dpo, longest, settings["seed"]),
        processing_class=tokenizer,
        train_dataset=dataset_of(prompt, pairs),
        eval_dataset=dataset_of(prompt, held_out),
        peft_config=lora_config(dpo),
        callbacks=[Reporter(stream)],
    )
    # These callbacks write to stdout.
    for callback in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(callback)
    return trainer, tokenizer, left_out


def run(settings: dict[str, Any], stream: TextIO) -> dict[str, Any]:
    """Train, write the new generator, and return the log of the stage."""
    trainer, tokenizer, left_out = trainer_of(settings, stream)
    beta = settings["dpo"]["beta"]
    trainer.train()
    trainer.evaluate()
    if RANK == 0:
        write_generator(trainer.model.merge_and_unload(), tokenizer, settings)
    history = trainer.state.log_history
    logged = [e for e in history if e.keys() >= {"loss", "rewards/margins"}]
    evaluated = [e for e in history if "eval_rewards/margins" in e]
    return {
        "steps": trainer.state.global_step,
        "prompt_tokens_left_out": left_out,
        "loss": [round(entry["loss"], 4) for entry in logged],
        "margin_nats": [round(entry["rewards/margins"] / beta, 3) for entry in logged],
        "held_out_margin_nats": [round(e["eval_rewards/margins"] / beta, 3) for e in evaluated],
    }


def write_generator(
    merged: Any, tokenizer: PreTrainedTokenizerBase, settings: dict[str, Any]
) -> None:
    """Write the trained model under another name, then rename it: it is there whole or not at all."""
    out, fresh = Path(settings["out"]), Path(settings["out"] + ".partial")
    # A stage that was killed left it.
    shutil.rmtree(fresh, ignore_errors=True)
    merged.save_pretrained(fresh)
    tokenizer.save_pretrained(fresh)
    keep_companions(Path(settings["generator"]), fresh)
    fresh.rename(out)


def keep_companions(source: Path, target: Path) -> None:
    """Copy the prompt and other text files that came with the generator."""
    for path in source.glob("*.txt"):
        if not (target / path.name).exists():
            (target / path.name).write_bytes(path.read_bytes())


def main() -> None:
    die_with_parent()
    settings = json.loads(Path(sys.argv[1]).read_text())
    # One rank speaks for all.
    stream = sys.stdout if RANK == 0 else open(os.devnull, "w")  # noqa: SIM115 - open to the end
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    with contextlib.redirect_stdout(sys.stderr):
        result = run(settings, stream)
    say({"result": result}, stream)


if __name__ == "__main__":
    main()
