from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from tenfold.align.encoding import EncodedPair, PairBatch
from tenfold.align.logps import token_logps
from tenfold.align.reading import Reader
from tests.align.models import Batch, gpt2, llama

READER = Reader(torch.device("cpu"), pad=0, size=2)


def encoded(count: int = 5) -> list[EncodedPair]:
    drawn = torch.Generator().manual_seed(3)

    def ids(most: int) -> tuple[int, ...]:
        length = int(torch.randint(1, most + 1, (1,), generator=drawn))
        return tuple(torch.randint(3, 97, (length,), generator=drawn).tolist())

    return [EncodedPair(i + 1, ids(9), ids(12), ids(12)) for i in range(count)]


@pytest.mark.parametrize("make", [llama, gpt2])
def test_a_row_is_read_alike_whatever_lies_beside_it(make: Callable[[], nn.Module]) -> None:
    model, pairs, told = make().eval(), encoded(), []
    for places, tokens, batch in READER.over(model, pairs, told.append):
        for side in (0, 1):
            for at, place in enumerate(places):
                row = at + side * len(places)
                pair = pairs[place]
                answer = (pair.chosen, pair.rejected)[side]
                alone = torch.tensor([[*pair.prompt, *answer]])
                with torch.no_grad():
                    own = token_logps(model(input_ids=alone).logits, alone)[0, -len(answer) :]
                found = tokens[row][batch.answer[row, 1:]]
                assert torch.allclose(found, own, atol=1e-5)
    assert told == [2, 4, 5]


@pytest.mark.parametrize("make", [llama, gpt2])
def test_leaving_out_the_mask_and_the_prompts_logits_changes_nothing(
    make: Callable[[], nn.Module],
) -> None:
    model, whole = make().eval(), Batch(pairs=3)
    batch = PairBatch(whole.ids, whole.attention, whole.answer, [1, 2, 3])
    tokens, part = READER.tokens(model, batch)
    (found := torch.where(part.answer[:, 1:], tokens, 0).sum(1)).sum().backward()
    mine = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    (expected := whole.logps(model)[0]).sum().backward()
    assert torch.allclose(found, expected, atol=1e-4)
    assert part.ids.shape[1] < whole.ids.shape[1]
    theirs = [p.grad for p in model.parameters() if p.grad is not None]
    for one, other in zip(mine, theirs, strict=True):
        assert torch.allclose(one, other, atol=1e-4)
