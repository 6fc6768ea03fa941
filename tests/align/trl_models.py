"""Pairs, a tokenizer and settings with which TRL's trainers run in a moment."""

from __future__ import annotations

import copy
import json
import os
import random
import signal
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tests.align.models import llama

# transformers 5 renames what TRL still calls by the old name.
WARNINGS = ("ignore:`(is_)?gradient_checkpointing.*is deprecated:FutureWarning",)


def tokenizer() -> Any:
    """A token a letter."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = "abcdefghijklmnopqrstuvwxyz ?.:,0123456789"
    words = ["<pad>", "<s>", "</s>", *letters]
    made = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<pad>"))
    made.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    made.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )


def rows(count: int = 8, seed: int = 0) -> list[dict[str, str]]:
    """Pairs whose answers begin alike and have different lengths."""
    drawn = random.Random(seed)

    def word(least: int, most: int) -> str:
        return "".join(drawn.choice("abcdefgh") for _ in range(drawn.randint(least, most)))

    made = []
    for _ in range(count):
        start = word(2, 3)
        made.append(
            {
                "prompt": word(3, 6) + " ",
                "chosen": start + word(1, 5) + "a",
                "rejected": start + word(1, 5) + "b",
            }
        )
    return made


def dataset(count: int = 8) -> Any:
    from datasets import Dataset

    return Dataset.from_list(rows(count))


def settings(folder: Path, **more: Any) -> dict[str, Any]:
    """Arguments of a TRL configuration: one step of two pairs on the CPU."""
    plain = {
        "output_dir": str(folder), "per_device_train_batch_size": 2, "max_steps": 1,
        "logging_steps": 1, "report_to": [], "use_cpu": True, "bf16": False,
        "gradient_checkpointing": False, "save_strategy": "no", "disable_tqdm": True,
        "learning_rate": 1e-2, "lr_scheduler_type": "constant", "max_grad_norm": 0.0,
        "optim": "sgd", "seed": 3,
    }  # fmt: skip
    return {**plain, **more}


def dpo(kind: type, model: nn.Module, folder: Path, *, data: int = 8, **more: Any) -> Any:
    """A DPOTrainer; arguments of the configuration and of the trainer together."""
    from trl import DPOConfig

    of_trainer = ("entanglement", "peft_config", "callbacks", "eval_dataset", "ref_model")
    given = {name: more.pop(name) for name in of_trainer if name in more}
    if "peft_config" not in given and not more.get("precompute_ref_log_probs"):
        given.setdefault("ref_model", copy.deepcopy(model))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        args = DPOConfig(**settings(folder, **more))
    return kind(
        model=model, args=args, train_dataset=dataset(data), processing_class=tokenizer(), **given
    )


def answer_logp(
    model: nn.Module,
    pair: dict[str, str],
    side: str,
    alpha: float = 1.0,
    *,
    shared: int = 999,
    begin: tuple[int, ...] = (),
) -> Tensor:
    """Log-prob of one answer by a pass of its own; tokens from `shared` on count `alpha`."""
    made = tokenizer()
    ids = [*begin, *made(pair["prompt"] + pair[side])["input_ids"], made.eos_token_id]
    start, whole = len(begin) + len(pair["prompt"]), torch.tensor([ids])
    logps = model(input_ids=whole, use_cache=False).logits.log_softmax(-1)[0, start - 1 : -1]
    taken = logps.gather(1, whole[0, start:, None]).squeeze(1)
    return taken[:shared].sum() + alpha * taken[shared:].sum()


def gradient(model: nn.Module, logp: Tensor) -> Tensor:
    """Of one log-prob with respect to all that is trained, flat."""
    trained = [p for p in model.parameters() if p.requires_grad]
    found = torch.autograd.grad(logp, trained, allow_unused=True)
    return torch.cat(
        [
            (torch.zeros_like(p) if g is None else g).flatten().double()
            for p, g in zip(trained, found, strict=True)
        ]
    )


def log_of(trainer: Any, kind: str = "entanglement") -> list[dict[str, Any]]:
    """The lines of one kind in a trainer's log."""
    from tenfold.align.record import read_log

    path = Path(trainer.args.output_dir, "entanglement.jsonl")
    return [line for line in read_log(path) if line["kind"] == kind]


def killed(kind: type, folder: Path, **more: Any) -> Any:
    """Six steps with a checkpoint after each second one."""
    return dpo(
        kind, llama(), folder, max_steps=6, save_strategy="steps", save_steps=2, data=12,
        optim="adamw_torch", lr_scheduler_type="linear", **more,
    )  # fmt: skip


def parallel(kind: type, folder: Path, pairs: int, **more: Any) -> Any:
    """Two steps of four pairs in all."""
    how = {"max_steps": 2, "per_device_train_batch_size": pairs, **more}
    return dpo(kind, llama(), folder, **how)


def main() -> None:
    """`die FOLDER` trains and dies in the fifth step, its log half written; `half FOLDER` is one of
    two processes."""
    from transformers import TrainerCallback
    from trl import DPOTrainer

    from tenfold.align.trl_trainer import Entanglement, EntanglementMixin

    kind = type("Entangled", (EntanglementMixin, DPOTrainer), {})
    folder = Path(sys.argv[2])
    if sys.argv[1] == "half":
        torch.set_num_threads(1)
        how = Entanglement(every=1, realised=True, layers=True)
        trainer = parallel(kind, folder, 2, entanglement=how, ddp_backend="gloo")
        trainer.train()
        if trainer.is_world_process_zero():
            shown = [x for x in trainer.state.log_history if "entangle/cosine" in x]
            (folder / "shown.json").write_text(json.dumps(shown))
        torch.distributed.destroy_process_group()
        return

    class Death(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == 5:
                with Path(args.output_dir, "entanglement.jsonl").open("a") as log:
                    log.write('{"kind": "progr')
                os.kill(os.getpid(), signal.SIGKILL)

    killed(kind, folder, entanglement=Entanglement(every=3), callbacks=[Death()]).train()


if __name__ == "__main__":
    main()
