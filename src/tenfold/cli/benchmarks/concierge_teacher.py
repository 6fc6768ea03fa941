"""Teacher-forced figures: the decoder reads given answers in float32, nothing is sampled."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from tenfold.cli.benchmarks import Report
from tenfold.cli.benchmarks.concierge_measures import total_variation
from tenfold.cli.held_out import HeldOut
from tenfold.models.loading import LoadedModel
from tenfold.models.reference import DenseCache, read
from tenfold.rewards.facts import facts_of

LOOKED_UP, VALUES, ALL = "looked up", "values", "all"
Exchange = tuple[Sequence[int], Sequence[int]]  # the tokens of a prompt and of its answer


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


def looked_up(
    text: str, spans: Sequence[tuple[int, int]], names: Iterable[str], asked: str
) -> list[tuple[int, int]]:
    """The spans of values in an answer that must be looked up. Those left out repeat the name of a
    record that the question (`asked`) or the answer before them has said already."""
    known = {name.casefold() for name in names}

    def repeated(begin: int, end: int) -> bool:
        name = text[begin:end].casefold()
        said = f"{asked}\n{text[:begin]}".casefold()
        return name in known and bool(re.search(rf"(?<!\w){re.escape(name)}(?!\w)", said))

    return [span for span in spans if not repeated(*span)]


def _spans(question: HeldOut) -> dict[str, Sequence[tuple[int, int]]]:
    """The spans of values in the reference: those to look up, those that are no record's name (the
    values of slots), and all of them."""
    names = {record.name.casefold() for record in facts_of(question.messages).records}
    text, spans = question.reference, question.starts
    asked = next((m.content or "" for m in reversed(question.messages) if m.role == "user"), "")
    return {
        LOOKED_UP: looked_up(text, spans, names, asked),
        VALUES: [(a, b) for a, b in spans if text[a:b].casefold() not in names],
        ALL: spans,
    }


def value_starts(
    model: LoadedModel, questions: Sequence[HeldOut], report: Report
) -> dict[str, tuple[int, int]]:
    """How many values begin with the token the model finds most likely, and how many there are: of
    those that must be LOOKED_UP (see `looked_up`), of the VALUES of slots, and of ALL."""
    found = dict.fromkeys((LOOKED_UP, VALUES, ALL), (0, 0))
    template = model.require_chat_template()
    with torch.inference_mode():
        for number, question in enumerate(questions):
            report("value starts", number / len(questions))
            prompt = model.tokenizer.encode(template.render(question.messages))
            answer = model.tokenizer.backend.encode(question.reference, add_special_tokens=False)
            best = logits_along(model, prompt, answer.ids).argmax(-1).tolist()
            for kind, spans in _spans(question).items():
                starts = first_tokens(question.reference, spans, answer.offsets)
                right, total = found[kind]
                right += sum(best[t] == answer.ids[t] for t in starts)
                found[kind] = right, total + len(starts)
    return found


def reference_tokens(model: LoadedModel, question: HeldOut) -> Exchange:
    """The prompt of a question and its reference as the model would say it: with the token that
    ends a turn."""
    tokenizer = model.tokenizer
    prompt = tokenizer.encode(model.require_chat_template().render(question.messages))
    answer = tokenizer.backend.encode(question.reference, add_special_tokens=False).ids
    return prompt, [*answer, *sorted(tokenizer.eos_ids)[:1]]


def acceptance(
    target: LoadedModel, draft: LoadedModel, exchanges: Sequence[Exchange], report: Report
) -> tuple[float, int]:
    """1 - the mean total variation of the two models' next-token distributions along given answers:
    the share of the draft's proposals that is accepted at temperature 1, each behind a beginning of
    such an answer. And the number of tokens.

    The figure `draft_acceptance` is measured along the held-out references, the setting
    `draft_acceptance_greedy` along the target's own greedy answers.
    """
    total, tokens = 0.0, 0
    with torch.inference_mode():
        for number, (prompt, answer) in enumerate(exchanges):
            report("draft acceptance", number / len(exchanges))
            if not answer:
                continue
            p, q = (logits_along(m, prompt, answer).softmax(-1) for m in (target, draft))
            total += float(total_variation(p, q).sum())
            tokens += len(answer)
    return (1 - total / tokens if tokens else 0.0), tokens
