"""The process of one training stage: DPO by TRL.

    python -m selfdev_engine.selfdev.train_process SETTINGS.json

Started by `torch.distributed.run` it is one of several processes ("ranks"), each with a card: a batch
is divided among them, their gradients are averaged, and the first one writes. Their preference loss
is that of one process. TRL's likelihood term is not: it is a mean over the tokens of a rank, so
short programs of one rank weigh more than long ones of another.

Settings choose where this differs from DPO as published (arXiv 2305.18290): LoRA on all linear
layers (as in arXiv 2410.15639), a likelihood term on the chosen programs, a constant learning rate
after a warm-up. One adapter goes on from stage to stage in float32, on the weights of the first
generator; the reference model is that generator with the adapter as the stage found it. A single process
without a card computes its log-probabilities once (with cards TRL would hash all weights for that, and
several ranks would look for a file that one of them wrote). What is swapped in, the checkpoint at
`out`, has the adapter folded in and rounded once, by adapter.py. Nothing here leaves pickle files.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import sys
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any, TextIO

import datasets
import torch
import transformers
from peft import PeftModel, get_peft_model
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
from trl.trainer.dpo_trainer import DPOTrainer

from ..engine.sandbox.guard import die_with_parent
from .adapter import ADAPTER, REFERENCE, dtype_of, fold
from .holdout import FEWEST_CHOSEN, MOST_COMPARED, Watch, margin_of
from .train import LOG
from .train_config import RANK, dpo_config, lora_config
from .train_faults import astray, fault_in_words


def say(message: dict[str, Any], stream: TextIO) -> None:
    """Write one line of JSON for the driver."""
    stream.write(json.dumps(message) + "\n")
    stream.flush()


class Reporter(TrainerCallback):
    """Reports every step to the driver."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        say({"stage": "steps"}, self.stream)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        say({"step": state.global_step, "total": state.max_steps}, self.stream)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **given: Any,
    ) -> None:
        """End a training that has gone astray: nothing is learned from what is no number."""
        if not math.isfinite(given["logs"].get("loss", 0.0)):
            raise FloatingPointError(astray("loss", state.global_step))


class Keeper(TrainerCallback):
    """Keeps a copy of the best adapter by the loss on the holdout, and ends the training."""

    def __init__(self, patience: int) -> None:
        self.watch, self.kept = Watch(patience), dict[str, torch.Tensor]()

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **given: Any,
    ) -> None:
        if self.watch.add(state.global_step, given["metrics"]["eval_loss"]):
            self.kept = {name: p.detach().clone() for name, p in trained(given["model"])}
        control.should_training_stop |= self.watch.is_over

    def put_back(self, model: torch.nn.Module) -> None:
        """Give the model the adapter that was kept, if one was."""
        for name, parameter in trained(model):
            if name in self.kept:
                parameter.data.copy_(self.kept[name])


def trained(model: torch.nn.Module) -> list[tuple[str, torch.nn.Parameter]]:
    """The parameters of the adapter that is trained."""
    return [(n, p) for n, p in model.named_parameters() if f".{ADAPTER}." in n]


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
        longest = max(longest, len(whole) + 1)
        left_out = max(left_out, len(head) - num_shared(head, whole))
    return longest, left_out


def num_shared(head: list[int], whole: list[int]) -> int:
    """How many first tokens of a prompt are those of the prompt with a completion."""
    pairwise = enumerate(zip(head, whole, strict=False))
    return next((i for i, (x, y) in pairwise if x != y), len(head))


def load_model(folder: str) -> Any:
    """Load the generator: as its files straight to this rank's card, or as float32 where there is none."""
    if torch.cuda.is_available():
        # peft brings an adapter to the present card first: all ranks would fill the first one.
        torch.cuda.set_device(RANK)
        words: dict[str, Any] = {"dtype": dtype_of(folder), "device_map": {"": RANK}}
    else:
        words = {"dtype": torch.float32}
    return AutoModelForCausalLM.from_pretrained(folder, **words)


def adapted(settings: dict[str, Any]) -> Any:
    """The first generator with the adapter that the stage trains: a new one, or the last stage's."""
    model = load_model(settings["generator"])
    if settings["adapter"]:
        return PeftModel.from_pretrained(model, settings["adapter"], is_trainable=True)
    return get_peft_model(model, lora_config(settings["dpo"]))


def compared(settings: dict[str, Any]) -> list[list[str]]:
    """Pairs of the holdout's best and worst programs, each program about as often.

    They fill whole batches, with a few of them left out or twice: the ranks' means of a part would not be
    the mean of all.
    """
    best, worst, batch = settings["best"], settings["worst"], settings["dpo"]["batch_size"]
    every = [
        [b, worst[(i + j) % len(worst)]] for j in range(len(worst)) for i, b in enumerate(best)
    ]
    count = max(batch, min(len(every), MOST_COMPARED) // batch * batch)
    return list(islice(cycle(every), count))


def trainer_of(
    settings: dict[str, Any], stream: TextIO
) -> tuple[Any, Keeper, PreTrainedTokenizerBase, int]:
    torch.manual_seed(settings["seed"])
    tokenizer = AutoTokenizer.from_pretrained(settings["generator"])
    prompt, pairs, held_out = settings["prompt"], settings["pairs"], compared(settings)
    longest, left_out = measure(tokenizer, prompt, pairs + held_out)
    watched = bool(held_out) and settings["num_chosen"] >= FEWEST_CHOSEN
    keeper = Keeper(settings["dpo"]["patience"])
    say({"stage": "load the model"}, stream)
    model = adapted(settings)
    # TRL asks the reference for all pairs before the first step, where the processor trains.
    say({"stage": "reference pass"}, stream)
    trainer = DPOTrainer(
        model=model,
        args=dpo_config(settings, longest, watched),
        processing_class=tokenizer,
        train_dataset=dataset_of(prompt, pairs),
        eval_dataset=dataset_of(prompt, held_out) if watched else None,
        callbacks=[Reporter(stream), *([keeper] if watched else [])],
    )
    # These callbacks write to stdout.
    for callback in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(callback)
    # TRL copies the adapter as its reference, and leaves the copy open to training.
    assert trainer.model is not None
    for name, parameter in trainer.model.named_parameters():
        parameter.requires_grad_(f".{ADAPTER}." in name)
    return trainer, keeper, tokenizer, left_out


def run(settings: dict[str, Any], stream: TextIO) -> dict[str, Any]:
    """Train, write the new adapter and the new generator, and return the log of the stage."""
    trainer, keeper, tokenizer, left_out = trainer_of(settings, stream)
    beta = settings["dpo"]["beta"]
    trainer.train()
    if RANK != 0:
        return {}
    model = trainer.model
    keeper.put_back(model)
    check_finite(model, trainer.state.global_step)
    logged = [e for e in trainer.state.log_history if e.keys() >= {"loss", "rewards/margins"}]
    log = {
        "steps": trainer.state.global_step,
        "kept_step": keeper.watch.kept_step or trainer.state.global_step,
        "holdout_loss": [[step, round(loss, 4)] for step, loss in keeper.watch.losses],
        "prompt_tokens_left_out": left_out,
        "loss": [round(entry["loss"], 4) for entry in logged],
        "margin_nats": [round(entry["rewards/margins"] / beta, 3) for entry in logged],
        "holdout_margin_nats": holdout_margin(model, tokenizer, settings),
        "ranks": settings["ranks"],
    }
    return write_stage(model, tokenizer, settings, log)


def check_finite(model: Any, step: int) -> None:
    """FloatingPointError where the adapter holds what is no number: the last steps are not logged."""
    if not all(bool(parameter.isfinite().all()) for _, parameter in trained(model)):
        raise FloatingPointError(astray("adapter", step))


def holdout_margin(
    model: Any, tokenizer: PreTrainedTokenizerBase, settings: dict[str, Any]
) -> list[float | None]:
    """[margin, low, high] in nats, of the holdout's best against its worst programs."""
    sides = []
    model.eval()
    for texts in (settings["best"], settings["worst"]):
        ways = [log_probs(model, name, tokenizer, settings, texts) for name in (ADAPTER, REFERENCE)]
        sides.append([policy - reference for policy, reference in zip(*ways, strict=True)])
    return [None if x is None else round(x, 3) for x in margin_of(*sides)]


@torch.no_grad()
def log_probs(
    model: Any,
    adapter: str,
    tokenizer: PreTrainedTokenizerBase,
    settings: dict[str, Any],
    texts: list[str],
) -> list[float]:
    """Log-probabilities of these completions, end included, with this adapter."""
    model.set_adapter(adapter)
    head, found = tokenizer(settings["prompt"])["input_ids"], []
    for text in texts:
        ids = [*tokenizer(settings["prompt"] + text)["input_ids"], tokenizer.eos_token_id]
        start = num_shared(head, ids)
        row = torch.tensor([ids], device=model.device)
        logits = model(input_ids=row).logits[0, start - 1 : -1].float()
        chances = logits.log_softmax(-1).gather(1, row[0, start:, None])
        found.append(float(chances.sum()))
    return found


def write_stage(
    model: Any, tokenizer: PreTrainedTokenizerBase, settings: dict[str, Any], log: dict[str, Any]
) -> dict[str, Any]:
    """Write the adapter with the log, then the generator; returns the log.

    Each is written under another name, then renamed. The generator comes last: where it is, all is.
    """
    model.set_adapter(ADAPTER)
    with fresh_folder(settings["adapter_out"]) as fresh:
        model.save_pretrained(fresh, selected_adapters=[ADAPTER])
        (fresh / "README.md").unlink(missing_ok=True)
        folded, survived = fold(model, dtype_of(settings["generator"]))
        log["survived"] = round(survived, 4)
        (fresh / LOG).write_text(json.dumps(log))
    with fresh_folder(settings["out"]) as fresh:
        folded.save_pretrained(fresh)
        tokenizer.save_pretrained(fresh)
        keep_companions(Path(settings["generator"]), fresh)
    return log


@contextlib.contextmanager
def fresh_folder(place: str) -> Iterator[Path]:
    """A folder under another name that takes its place at the end, in place of an earlier one."""
    fresh = Path(place + ".partial")
    # A stage that was killed left them.
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    yield fresh
    shutil.rmtree(place, ignore_errors=True)
    fresh.rename(place)


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
    try:
        with contextlib.redirect_stdout(sys.stderr):
            result = run(settings, stream)
    except Exception as error:
        if words := fault_in_words(error):
            # Whichever rank it is: the others know nothing of it.
            say({"fault": words}, sys.stdout)
        raise
    say({"result": result}, stream)


if __name__ == "__main__":
    main()
