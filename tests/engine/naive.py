"""The same verbs without blocks, batches or sharing: a branch recomputes everything each token."""

from __future__ import annotations

import numpy as np
import torch

from tenfold.engine.sampler import SampleRow, sample
from tenfold.types import SamplingParams
from tests.engine.mock_model import EOS, mock_logits


def naive_extend(
    prompt: list[int], output: list[int], params: SamplingParams, candidate: int, count: int
) -> list[int]:
    """The next at most `count` tokens of a branch."""
    output = list(output)
    for _ in range(count):
        if output and output[-1] == EOS:
            break
        logits = torch.from_numpy(mock_logits(np.array(prompt + output)))[None]
        row = SampleRow(
            params=params,
            seed=params.seed or 0,
            candidate=candidate,
            position=len(output),
            prompt_ids=prompt,
            output_ids=output,
            forbid=frozenset(),
            constraint=None,
        )
        output.append(sample(logits, [row])[0].token_id)
    return output
