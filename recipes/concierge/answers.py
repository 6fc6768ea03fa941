"""Write random held-out questions with the shipped model's answers, unedited, as a page.

``python -m recipes.concierge.answers --out docs/concierge-answers.md`` draws 50 by a fixed seed.
"""

from __future__ import annotations

import argparse
import asyncio
import random
from collections.abc import Sequence
from pathlib import Path

from tenfold.cli.benchmarks.concierge_answers import answer_greedily
from tenfold.cli.held_out import HeldOut, HeldOutFile, read_held_out, shipped
from tenfold.search.llm import AsyncLLM

SETS = {"short_seen": 15, "short_unseen": 10, "long_seen": 15, "long_unseen": 10}
HEAD = """# Fifty answers of the concierge, unedited

Random held-out questions (seed {seed}; {sets}) and the greedy answers of the
shipped model, neither chosen nor edited:
`python -m recipes.concierge.answers --out docs/concierge-answers.md`.
Turns between the facts and the last question are shown as they were. After each answer stands what
the verifier found: values required, missing, wrong (another record's or slot's) and invented.

{exact} of {count} are free of errors.
"""


async def answer(model: str, file: HeldOutFile, questions: Sequence[HeldOut]) -> list[str]:
    """Return the greedy answer to each question."""
    llm = AsyncLLM.load(model)
    try:
        answers = await answer_greedily(llm, file, questions, lambda *_: None)
        return [a.completion.text for a in answers]
    finally:
        await llm.close()


def draw(file: HeldOutFile, seed: int) -> list[HeldOut]:
    """Draw as many questions of each set as SETS says."""
    rng = random.Random(seed)
    return [q for name, count in SETS.items() for q in rng.sample(file.of(name), count)]


def page(file: HeldOutFile, questions: Sequence[HeldOut], answers: Sequence[str], seed: int) -> str:
    """Write the page."""
    parts, exact = [], 0
    for number, (question, text) in enumerate(zip(questions, answers, strict=True), 1):
        verdict = file.verifier(question).check(text)
        exact += verdict.slot_errors == 0
        missing = [f"{need.slot or 'name'} {need.value}" for need in verdict.missing]
        found = [
            f"{len(items)} {what} ({'; '.join(items)})"
            for what, items in (
                ("missing", missing),
                ("wrong", verdict.wrong),
                ("invented", verdict.invented),
            )
            if items
        ]
        lines = [f"## {number}. {question.set}, {question.kind}", "", "```"]
        lines += [f"{m.role}: {m.content}" for m in question.messages]
        lines += ["```", "", f"> {text}", ""]
        lines += [f"{verdict.required} required: {', '.join(found) or 'no errors'}.", ""]
        parts.append("\n".join(lines))
    sets = ", ".join(f"{count} {name}" for name, count in SETS.items())
    head = HEAD.format(seed=seed, sets=sets, exact=exact, count=len(questions))
    return "\n".join([head, *parts])


def main() -> None:
    """Answer and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="concierge")
    parser.add_argument("--seed", type=int, default=50)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    file = read_held_out(shipped(options.model))
    questions = draw(file, options.seed)
    answers = asyncio.run(answer(options.model, file, questions))
    options.out.write_text(page(file, questions, answers, options.seed))


if __name__ == "__main__":
    main()
