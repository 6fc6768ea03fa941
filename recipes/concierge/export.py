"""Write a checkpoint as a plain Hugging Face folder: bf16 weights, config, tokenizer.

``python -m recipes.concierge.export --work build/concierge --model concierge --out FOLDER``.
The multipliers of training are folded into the weights: any loader of Llama reads the result.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import sys
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from .checkpoint import (
    check_tokenizer,
    load_tensors,
    load_tokenizer,
    newest_checkpoint,
    read_state,
)
from .datafiles import DataError
from .model import SHAPES, build_model, llama_config, plain_weights

log = logging.getLogger(__name__)
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
)
TEMPERATURE = 0.5  # between greedy, which errs least, and 0.7, where search has most to choose from
GENERATION = {
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "do_sample": True,
    "max_new_tokens": 320,
    "temperature": TEMPERATURE,
}


def export(run: Path, tokenizer: Path, out: Path, name: str) -> None:
    """Write the folder ``out`` from the newest checkpoint in ``run``."""
    checkpoint = newest_checkpoint(run)
    if checkpoint is None:
        raise DataError(f"{run} holds no checkpoint: run python -m recipes.concierge.train first")
    tensors = load_tensors(checkpoint / "model.safetensors")
    vocabulary = tensors["model.embed_tokens.weight"].shape[0]
    state = read_state(checkpoint / "model.safetensors")
    check_tokenizer(load_tokenizer(tokenizer), state, vocabulary, checkpoint)
    shape = SHAPES[name]
    model = build_model(shape, vocabulary, seed=0, scaled=bool(state.get("scaled", 1)))
    model.load_state_dict(tensors, strict=False)
    out.mkdir(parents=True, exist_ok=True)
    weights = {n: t.to(torch.bfloat16).contiguous() for n, t in plain_weights(model).items()}
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    (out / "model.safetensors").chmod(0o644)
    config = llama_config(shape, vocabulary)
    config.architectures = ["LlamaForCausalLM"]
    config.dtype = torch.bfloat16
    config.use_cache = True
    config.save_pretrained(out)
    (out / "generation_config.json").write_text(json.dumps(GENERATION, indent=2) + "\n")
    for file in TOKENIZER_FILES:
        shutil.copyfile(tokenizer / file, out / file)
    size = (out / "model.safetensors").stat().st_size / 1e6
    log.info(
        "%s: %.1f MB, %d steps, %.2fM tokens", out, size, state["steps"], state["seen_tokens"] / 1e6
    )


def main() -> int:
    """Export the newest checkpoint of a model."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--model", choices=sorted(SHAPES), default="concierge")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    run = options.work / "runs" / options.model
    try:
        export(run, options.work / "tokenizer", options.out, options.model)
    except DataError as error:
        log.error("%s", error)
        return 2
    except (OSError, SafetensorError) as error:
        log.error("%s cannot be written: %s", options.out, error)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
