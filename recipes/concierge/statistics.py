"""Write the page that says what the training data consists of, and a figure of answer lengths.

``python -m recipes.concierge.statistics --work build/concierge --out docs/concierge-data.md``.
What a person saw in fifty conversations stands in ``reading.md`` beside this file and is put at
the end of the page; ``--sample 50`` prints the conversations to read.
"""

from __future__ import annotations

import argparse
import logging
import random
import sys
from pathlib import Path

from tokenizers import Tokenizer

from .checkpoint import load_tokenizer
from .data import TEMPLATES, Corpus, DataError, Lesson, draw_episode, load_corpus
from .tables import (
    EPISODES,
    dialogue_table,
    drawn,
    lengths_by_kind,
    mixture_table,
    overlap_table,
    plain_share,
    pool_table,
    quantiles,
    services,
    size_table,
    table,
    template_table,
)
from .templates import Mined, load_templates

log = logging.getLogger(__name__)
READING = Path(__file__).with_name("reading.md")


def draw_figure(lengths: dict[str, list[int]], out: Path) -> None:
    """Draw histograms of answer lengths, one curve for each group of kinds."""
    from matplotlib.figure import Figure

    short = {"offer": "suggest", "confirm": "confirm", "inform": "tell", "value": "one value"}
    long = [f"{kind} (long)" for kind in ("options", "compare", "multi", "recap", "itinerary")]
    figure = Figure(figsize=(8, 3.4), dpi=110, layout="constrained")
    left, right = figure.subplots(1, 2)
    for axes, kinds, width, title in (
        (left, list(short), 3, "short answers"),
        (right, long, 15, "long answers"),
    ):
        for kind in kinds:
            numbers = lengths.get(kind, [])
            label = short.get(kind, kind.removesuffix(" (long)"))
            edges = range(0, (69 if axes is left else 285) + width, width)
            weights = [100 / len(numbers)] * len(numbers)
            axes.hist(
                numbers, bins=list(edges), weights=weights, histtype="step", label=label, lw=1.4
            )
        axes.set(title=title, xlabel="tokens", ylabel="% of answers of the kind")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, metadata={"Software": None})


def page(corpus: Corpus, mined: Mined, tokenizer: Tokenizer, figure: Path) -> str:
    """Return the page, and draw its figure."""
    episodes = drawn(corpus, 1.0, EPISODES)
    lengths = lengths_by_kind(episodes, tokenizer)
    draw_figure(lengths, figure)
    train, unseen = services(corpus.train), services(corpus.unseen)
    kinds = [(kind, len(n), *quantiles(n)) for kind, n in lengths.items()]
    plain = plain_share(episodes)
    reading = READING.read_text(encoding="utf-8").strip() if READING.is_file() else ""
    return f"""# What the concierge is trained on

Written by `python -m recipes.concierge.statistics`; the data is prepared by
`python -m recipes.concierge.data` from the Schema-Guided Dialogue dataset
(google-research-datasets, CC BY-SA 4.0), with every value of a larger pool replaced.

## Dialogues
{dialogue_table(corpus)}

Services of training: {", ".join(sorted(train))}.
Services never seen in training: {", ".join(sorted(unseen - train))}.

## Templates
Human turns with the values cut out, by role; "a + b" are used in training and held out.

{template_table(mined)}

## The mixture, by share of the tokens seen
Repeats are random tokens said twice; the other shares are of conversations.

{mixture_table(corpus, tokenizer)}

## Answers, in tokens
Of {EPISODES} conversations at the last stage; "free" are answers that the conversation does not
determine (questions, thanks), which no figure counts.

{table(("kind", "answers", "10th percentile", "median", "90th"), kinds)}

![answer lengths by kind](images/{figure.name})

In long answers {plain:.0%} of the slots are said in a plain sentence ("For Blue Door the city is
Porto.", "The city is Porto."), {1 - plain:.0%} in the words of a human template or beside another
record's.

## Records and distractors
A distractor is another record that holds the slot asked for.

{size_table(episodes)}

## Values
{pool_table(corpus)}

## Overlap of the held-out sets with training
The shipped questions leave out every one that requires a value counted in the last rows. Those are
values that stay because people wrote them otherwise ("SF" for San Francisco), and names of services
never seen that training has too.
Templates of services never seen that are also in training are sentences that people use of any
service ("Is there anything else?").

{overlap_table(corpus, mined)}

{reading}
"""


def show(corpus: Corpus, count: int) -> None:
    """Print conversations of the last stage, as they are drawn."""
    rng, lesson = random.Random("reading"), Lesson.at(1.0)
    for number in range(1, count + 1):
        episode = draw_episode(corpus, lesson, rng)
        print(f"--- {number} ({episode.family})")
        for message in episode.messages:
            print(f"{message.role}: {message.text}")


def main() -> int:
    """Write the page and its figure, or print conversations."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("docs/concierge-data.md"))
    parser.add_argument("--sample", type=int, default=0, help="print so many conversations instead")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        corpus, mined = load_corpus(options.work), load_templates(options.work / TEMPLATES)
        tokenizer = load_tokenizer(options.work / "tokenizer")
    except DataError as error:
        log.error("%s", error)
        return 2
    if options.sample:
        show(corpus, options.sample)
        return 0
    figure = options.out.parent / "images" / "concierge-data.png"
    options.out.write_text(page(corpus, mined, tokenizer, figure), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
