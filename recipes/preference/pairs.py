"""Make training groups, policy pairs and the held-out pairs of graded samples.

``python -m recipes.preference.pairs --samples DIR --part guide`` writes ``guide-groups.jsonl`` and
``policy.jsonl`` (for ``tenfold train preference``); ``--part held --out FOLDER`` writes
``held_out.jsonl.gz``, which is shipped beside the reward model. Started again it goes on.
"""

from __future__ import annotations

import argparse
import gzip
import json
import logging
import random
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from recipes.concierge.checkpoint import load_tokenizer
from tenfold.models.folders import locate
from tenfold.rewards.facts import facts_of
from tenfold.types import as_messages

from .groups import Graded, Grader, Group, write_group
from .negatives import CHANGES, values_by_slot
from .prompts import COMPOSED, PARTS, as_json, corpus_of, held_out_questions, training_prompts
from .samples import done_before

log = logging.getLogger(__name__)
HELD_OUT = "held_out.jsonl.gz"
CHANGED, HELD_CHANGED = 7, 10  # changed answers of a prompt
SEED = 17
CLEARLY = 0.15  # two samples are a pair when their scores differ by this much
AFTER = 6  # tokens behind an error at which a partial answer is cut
KINDS = ("sample", "graded", *CHANGES, "partial")


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The whole lines that `samples` wrote so far."""
    text = path.read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def pairs_of(group: Group, rng: random.Random) -> list[tuple[str, int, int]]:
    """(kind, better, worse) among the whole answers of a group; at most three a kind."""
    answers = group.answers
    samples = [i for i, a in enumerate(answers) if a.kind == "sample"]
    found = [("sample", 0, i) for i in samples if answers[i].errors > answers[0].errors]
    found += [
        ("graded", i, j)
        for i in samples
        for j in samples
        if answers[i].errors < answers[j].errors and answers[i].score >= answers[j].score + CLEARLY
    ]
    found += [(a.kind, a.original, i) for i, a in enumerate(answers) if a.kind in CHANGES]
    rng.shuffle(found)
    taken: Counter[str] = Counter()
    kept = []
    for pair in found:
        taken[pair[0]] += 1
        if taken[pair[0]] <= 3:
            kept.append(pair)
    return sorted(kept, key=lambda p: KINDS.index(p[0]))


def policy_pairs(row: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The best sample against the worst, and the right answer against the worst where none of the
    samples is right; in the trainer's format."""
    samples = [s for s in row["samples"] if s["finished"]]
    if len(samples) < 2:
        return
    errors = [s["missing"] + s["wrong"] + s["invented"] for s in samples]
    best, worst = (f(range(len(samples)), key=errors.__getitem__) for f in (min, max))
    if errors[best] < errors[worst]:
        yield _policy(row, samples[best]["text"], samples[worst]["text"], "best_worst")
    if errors[best] and row["reference"] != samples[worst]["text"]:
        yield _policy(row, row["reference"], samples[worst]["text"], "reference_worst")


def _policy(row: Mapping[str, Any], chosen: str, rejected: str, kind: str) -> dict[str, Any]:
    def said(text: str) -> list[dict[str, str]]:
        return [{"role": "assistant", "content": text}]

    return {
        "prompt": row["messages"], "chosen": said(chosen), "rejected": said(rejected),
        "kind": kind, "id": row["id"],
    }  # fmt: skip


def composed_rows(work: Path, part: str, count: int) -> list[dict[str, Any]]:
    """Prompts without samples: their right answers can be changed all the same, at no cost."""
    tokenizer = load_tokenizer(work / "tokenizer")
    found = training_prompts(corpus_of(work, part), part, tokenizer, COMPOSED)
    return [
        {**as_json(p), "prompt_ids": prompt_ids(tokenizer, p.messages), "samples": []}
        for p, _ in zip(found, range(count), strict=False)
    ]


def prompt_ids(tokenizer: Tokenizer, messages: Sequence[Mapping[str, str]]) -> list[int]:
    """A conversation as the chat template renders it, up to where the answer begins."""
    ids, end = [tokenizer.token_to_id("<|bos|>")], tokenizer.token_to_id("<|end|>")
    for m in messages:
        said = tokenizer.encode(m["content"], add_special_tokens=False).ids
        ids += [tokenizer.token_to_id(f"<|{m['role']}|>"), *said, end]
    return [*ids, tokenizer.token_to_id("<|assistant|>")]


def make_groups(rows: Sequence[Mapping[str, Any]], done: int, changes: int) -> Iterator[Group]:
    """The groups of all rows but the first `done`."""
    tokenizer = Tokenizer.from_file(str(locate("concierge") / "tokenizer.json"))
    values = values_by_slot(facts_of(as_messages(r["messages"])) for r in rows)
    others = [r["reference"] for r in rows]
    held = changes == HELD_CHANGED
    grader = Grader(tokenizer, held_out_questions().lexicon, values, others, running=not held)
    for row in rows[done:]:
        yield grader.group(row, changes, random.Random(f"{SEED}-{row['id']}"))


def held_row(group: Group, tokenizer: Tokenizer) -> dict[str, Any]:
    """A group as the held-out file has it: with partial answers, each its original cut likewise."""
    rng = random.Random(f"held-{group.id}")
    pairs = pairs_of(group, rng)
    answers = list(group.answers)
    for kind, better, worse in list(pairs):
        if kind in ("wrong_record", "wrong_slot", "invented"):
            cut = answers[worse].begins + AFTER
            for i in (better, worse):
                text = tokenizer.decode(answers[i].ids[:cut]).rstrip("\ufffd")
                answers.append(Graded([], text, "partial", 0, 0.0, finished=False))
            if answers[-1].text != answers[-2].text:
                pairs.append(("partial", len(answers) - 2, len(answers) - 1))
    return {
        "id": group.id,
        "answers": [[a.kind, a.text, a.errors, a.score, a.finished] for a in answers],
        "pairs": pairs,
    }


def write_held(rows: Sequence[Mapping[str, Any]], out: Path) -> None:
    """Write the held-out file, the same bytes for the same samples."""
    tokenizer = Tokenizer.from_file(str(locate("concierge") / "tokenizer.json"))
    found = [held_row(g, tokenizer) for g in make_groups(rows, 0, HELD_CHANGED)]
    counted = Counter(p[0] for row in found for p in row["pairs"])
    about = {
        "what": "Graded answers to held-out questions of tenfold's concierge, and pairs of them by "
        "kind of error. The questions are those of concierge/questions.jsonl.gz, by id.",
        "source": "samples of the concierge at temperature 0.7, its references, and changes of "
        "both; values from the Schema-Guided Dialogue dataset, google-research-datasets",
        "licence": "CC BY-SA 4.0",
        "answers": ["kind", "text", "errors by the verifier", "score by the verifier", "finished"],
        "pairs": ["kind", "better", "worse"],
        "counts": dict(counted),
    }
    out.mkdir(parents=True, exist_ok=True)
    lines = "".join(
        json.dumps(o, ensure_ascii=False, separators=(",", ":")) + "\n"
        for o in ({"about": about}, *found)
    )
    (out / HELD_OUT).write_bytes(gzip.compress(lines.encode(), 9, mtime=0))
    log.info("held out: %d prompts, %s", len(found), dict(counted))


def main() -> int:
    """Write the files of a part."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--samples", type=Path, required=True, help="the folder of the samples")
    parser.add_argument("--part", choices=PARTS, required=True)
    parser.add_argument("--out", type=Path, help="a folder; by default that of the samples")
    parser.add_argument(
        "--composed", type=int, default=0, help="prompts without samples instead, mostly short"
    )
    parser.add_argument("--work", type=Path, help="the concierge recipe's folder, for --composed")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    out = options.out or options.samples
    file = options.samples / f"{options.part}.jsonl"
    if not file.is_file():
        log.error("%s is missing: run python -m recipes.preference.samples first", file)
        return 2
    rows = read_rows(file)
    if options.part == "held":
        write_held(rows, out)
        return 0
    name = "groups"
    if options.composed:
        rows, name = composed_rows(options.work, options.part, options.composed), "composed"
    groups = out / f"{options.part}-{name}.jsonl"
    done = done_before(groups)
    with groups.open("a", encoding="utf-8") as written:
        for group in make_groups(rows, done, CHANGED):
            written.write(write_group(group))
            written.flush()
    if options.part == "guide" and not options.composed:
        found = [pair for row in rows for pair in policy_pairs(row)]
        lines = (json.dumps(pair, ensure_ascii=False) + "\n" for pair in found)
        (out / "policy.jsonl").write_text("".join(lines), encoding="utf-8")
        log.info("policy pairs: %s", dict(Counter(p["kind"] for p in found)))
    log.info("%s: %d groups", groups, len(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
