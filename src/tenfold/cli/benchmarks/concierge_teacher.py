"""Teacher-forced figures: the decoder reads given answers in float32, nothing is sampled."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tenfold.cli.benchmarks import Report
from tenfold.cli.benchmarks.concierge_answers import Answered
from tenfold.cli.benchmarks.concierge_measures import total_variation
from tenfold.cli.held_out import HeldOut
from tenfold.models.loading import LoadedModel
from tenfold.models.reference import DenseCache, read


def logits_along(model: LoadedModel, prompt: Sequence[int], answer: Sequence[int]) -> Tensor:
    """What the model predicts for each token of the answer: [answer tokens, vocab]."""
    decoder = model.decoder
    ids = [*prompt, *answer[:-1]]
    hidden = torch.cat(list(read(decoder, ids, DenseCache(decoder.spec))))
    return decoder.logits(hidden[len(prompt) - 1 :])


def first_tokens(
    text: str, spans: Sequence[tuple[int, int]], offsets: Sequence[tuple[int, int]]
) -> list[int]:
    """For each span of characters the token that must be looked up first: the one with the span's
    first letter or digit (a space or `$` before it can be guessed). Spans without any are left out.
    """
    found = []
    for begin, end in spans:
        at = next((i for i in range(begin, end) if text[i].isalnum()), None)
        if at is not None:
            found.append(next(t for t, (a, b) in enumerate(offsets) if a <= at < b))
    return found


def value_starts(
    model: LoadedModel, questions: Sequence[HeldOut], report: Report
) -> tuple[int, int]:
    """How many values begin with the token the model finds most likely, and how many there are."""
    right = total = 0
    template = model.require_chat_template()
    with torch.inference_mode():
        for number, question in enumerate(questions):
            report("value starts", number / len(questions))
            prompt = model.tokenizer.encode(template.render(question.messages))
            answer = model.tokenizer.backend.encode(question.reference, add_special_tokens=False)
            starts = first_tokens(question.reference, question.starts, answer.offsets)
            best = logits_along(model, prompt, answer.ids).argmax(-1).tolist()
            right += sum(best[t] == answer.ids[t] for t in starts)
            total += len(starts)
    return right, total


def acceptance(
    target: LoadedModel, draft: LoadedModel, answers: Sequence[Answered], report: Report
) -> tuple[float, int]:
    """1 - the mean total variation of the two models' next-token distributions along the target's
    answers: the share of the draft's proposals that are accepted at temperature 1. And the number
    of tokens."""
    total, tokens = 0.0, 0
    with torch.inference_mode():
        for number, answered in enumerate(answers):
            report("draft acceptance", number / len(answers))
            answer = answered.completion.token_ids
            if not answer:
                continue
            p, q = (
                logits_along(m, answered.prompt_ids, answer).softmax(-1) for m in (target, draft)
            )
            total += float(total_variation(p, q).sum())
            tokens += len(answer)
    return (1 - total / tokens if tokens else 0.0), tokens
