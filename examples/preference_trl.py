"""Why do my chosen log-probs fall? TRL's DPOTrainer, watched; on pairs and a model made here.

    python examples/preference_trl.py

A small model first learns to write answers, right and wrong ones. DPO is then to make it prefer the
right ones, which differ from the wrong ones in one word: both become less likely together. The
figures under `entangle/` say so while it happens, and the second training, with the remedy that
they ask for, keeps the chosen answers. Both write a report.
"""

from __future__ import annotations

import argparse
import copy
import random
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, PrinterCallback
from trl import DPOConfig, DPOTrainer

from tenfold.align.report import write_report
from tenfold.align.trl_trainer import Entanglement, EntanglementCallback, EntanglementMixin

THINGS = ("cat", "dog", "bird", "horse", "sheep", "fox", "bear", "owl")
GOOD, BAD = ("calm", "kind", "brave", "wise"), ("rude", "lazy", "mean", "vain")


class Trainer(EntanglementMixin, DPOTrainer):
    """All that a TRL script has to change."""


def pairs(count: int, seed: int) -> list[dict[str, str]]:
    """Two answers that are alike but for one word."""
    drawn, made = random.Random(seed), []
    for _ in range(count):
        thing, place = drawn.choice(THINGS), drawn.choice(("farm", "hill", "lake", "road"))
        text = f"the {thing} by the {place} was {{}} as ever."
        chosen, rejected = text.format(drawn.choice(GOOD)), text.format(drawn.choice(BAD))
        prompt = f"how was the {thing}? "
        made.append({"prompt": prompt, "chosen": chosen, "rejected": rejected})
    return made


def tokenizer() -> PreTrainedTokenizerFast:
    """A token a letter."""
    words = ["<pad>", "<s>", "</s>", *"abcdefghijklmnopqrstuvwxyz .?"]
    made = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<pad>"))
    made.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    made.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )


def writer(tokens: PreTrainedTokenizerFast, steps: int) -> LlamaForCausalLM:
    """A model that writes such answers, good and bad ones alike."""
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokens), hidden_size=64, intermediate_size=128, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=4, max_position_embeddings=256,
            tie_word_embeddings=True, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        )
    )  # fmt: skip
    texts = [
        p["prompt"] + p[k] + "</s>" for p in pairs(256, seed=1) for k in ("chosen", "rejected")
    ]
    batch = tokens(texts, padding=True, return_tensors="pt")
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(steps):
        some = slice(step * 32 % len(texts), step * 32 % len(texts) + 32)
        ids, mask = batch["input_ids"][some], batch["attention_mask"][some]
        model(input_ids=ids, attention_mask=mask, labels=labels[some]).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model


def train(start: LlamaForCausalLM, folder: Path, steps: int, **how: Any) -> dict[str, float]:
    """One DPO training; the last figures of the pairs that are held out."""
    model, tokens = copy.deepcopy(start), tokenizer()
    trainer = Trainer(
        model=model,
        ref_model=copy.deepcopy(start),
        args=DPOConfig(
            output_dir=str(folder), per_device_train_batch_size=8, max_steps=steps,
            learning_rate=how.pop("learning_rate", 5e-4), lr_scheduler_type="constant",
            logging_steps=10, report_to="none", save_strategy="no", use_cpu=True, bf16=False,
            gradient_checkpointing=False, disable_tqdm=True, **how,
        ),
        train_dataset=Dataset.from_list(pairs(512, seed=2)),
        processing_class=tokens,
        entanglement=Entanglement(every=5, layers=True),
    )  # fmt: skip
    trainer.add_callback(EntanglementCallback(trainer, pairs(16, seed=3), every=10, batch=16))
    trainer.remove_callback(PrinterCallback)  # what it would print is shown below, in short
    trainer.train()
    write_report(folder / "entanglement.jsonl", folder / "report.html")
    shown = [line for line in trainer.state.log_history if "entangle/probe_cosine" in line]
    for line in shown:
        print(
            f"step {line['step']:3d}"
            f"  chosen {line['entangle/probe_chosen_gain']:+6.2f}"
            f"  rejected {line['entangle/probe_rejected_gain']:+6.2f}"
            f"  cosine {line['entangle/probe_cosine']:.2f}"
            f"  both down {line['entangle/probe_both_down']:4.0%}"
            f"  right {line['entangle/probe_accuracy']:4.0%}"
        )
    return shown[-1]


def main() -> None:
    """Two trainings, a line for each tenth step."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("preference-trl"))
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--learn", type=int, default=150, help="steps in which it learns to write")
    given = parser.parse_args()
    start = writer(tokenizer(), given.learn)
    print("DPO: nats over the model before, of held-out pairs")
    train(start, given.out / "dpo", given.steps)
    print("DPO with an SFT term")
    remedy = {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 1.0]}
    train(start, given.out / "sft", given.steps, **remedy)


if __name__ == "__main__":
    main()
