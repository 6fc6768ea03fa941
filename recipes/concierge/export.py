"""Write a checkpoint as a plain Hugging Face folder: bf16 weights, config, tokenizer.

``python -m recipes.concierge.export --work build/concierge --out FOLDER``
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from .train import Settings, build_model, read_state

log = logging.getLogger(__name__)
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
)
GENERATION = {
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "do_sample": True,
    "max_new_tokens": 256,
    "temperature": 0.3,  # as good as greedy (LOG.md), and search has something to choose from
}


def export(checkpoint: Path, tokenizer: Path, out: Path, settings: Settings) -> None:
    """Write the folder; ``settings`` must be those the checkpoint was trained with."""
    out.mkdir(parents=True, exist_ok=True)
    weights = {
        name.removeprefix("model|"): tensor.to(torch.bfloat16).contiguous()
        for name, tensor in load_file(checkpoint).items()
        if name.startswith("model|")
    }
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    vocabulary = weights["model.embed_tokens.weight"].shape[0]
    (out / "model.safetensors").chmod(0o644)
    config = build_model(settings, vocabulary).config
    config.architectures = ["LlamaForCausalLM"]
    config.dtype = torch.bfloat16
    config.use_cache = True
    config.save_pretrained(out)
    (out / "generation_config.json").write_text(json.dumps(GENERATION, indent=2) + "\n")
    for name in TOKENIZER_FILES:
        shutil.copyfile(tokenizer / name, out / name)
    state = read_state(checkpoint)
    size = (out / "model.safetensors").stat().st_size / 1e6
    log.info(
        "%s: %.1f MB, %d steps, %.2fM tokens", out, size, state["steps"], state["seen_tokens"] / 1e6
    )


def main() -> None:
    """Export the newest checkpoint of a work folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    export(
        options.work / "run" / "checkpoint.safetensors",
        options.work / "tokenizer",
        options.out,
        Settings(),
    )


if __name__ == "__main__":
    main()
