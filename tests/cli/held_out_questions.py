"""A small file of held-out questions, as a recipe ships them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

FACTS = (
    "Blue Door is a restaurant. For Blue Door the city is Porto. For Blue Door the rating is 4.1. "
    "For Blue Door the phone number is 408-971-8523.\n"
    "Azit is a restaurant. For Azit the city is Tiburon. For Azit the rating is 3.6. "
    "For Azit the phone number is 456-655-1536."
)
VALUES = {
    ("Blue Door", "city"): "Porto",
    ("Blue Door", "rating"): "4.1",
    ("Blue Door", "phone number"): "408-971-8523",
    ("Azit", "city"): "Tiburon",
    ("Azit", "rating"): "3.6",
    ("Azit", "phone number"): "456-655-1536",
}
Key = tuple[str, str]


def question(name: str, kind: str, asked: str, reference: str, *keys: Key) -> dict[str, Any]:
    """One question; the spans of the values are where the reference first has them."""
    begins = [reference.index(VALUES[key]) for key in keys]
    return {
        "id": name,
        "set": name.rpartition("-")[0],
        "kind": kind,
        "records": 2,
        "slots": 3,
        "messages": [
            {"role": "system", "content": FACTS},
            {"role": "user", "content": asked},
        ],
        "required": [[*key, VALUES[key]] for key in keys],
        "reference": reference,
        "starts": [[b, b + len(VALUES[key])] for b, key in zip(begins, keys, strict=True)],
        "baselines": {
            "nearest": "Blue Door is in Paris.",
            "ngram": reference if kind == "value" else "I do not know.",
        },
    }


def objects() -> list[dict[str, Any]]:
    """The head and nine questions in all five sets."""
    door, azit, phone, city, rating = "Blue Door", "Azit", "phone number", "city", "rating"
    compared = "Blue Door is in Porto and rated 4.1, Azit is in Tiburon and rated 3.6."
    everything = "Blue Door is in Porto. It is rated 4.1. Its phone number is 408-971-8523."
    return [
        {"about": {"licence": "CC0-1.0"}, "lexicon": "you can reach is the it its in and rated"},
        question(
            "short_seen-0000",
            "value",
            "What is the phone number of Blue Door?",
            "You can reach Blue Door at 408-971-8523.",
            (door, phone),
        ),
        question(
            "short_seen-0001", "inform", "Where is Azit?", "Azit is in Tiburon.", (azit, city)
        ),
        question(
            "short_unseen-0000", "value", "How is Azit rated?", "It is rated 3.6.", (azit, rating)
        ),
        question(
            "long_seen-0000",
            "compare",
            "Compare the city and the rating of Blue Door and Azit.",
            compared,
            *((record, slot) for record in (door, azit) for slot in (city, rating)),
        ),
        question(
            "long_seen-0001",
            "recap",
            "Tell me everything about Blue Door.",
            everything,
            *((door, slot) for slot in (city, rating, phone)),
        ),
        question(
            "long_unseen-0000",
            "multi",
            "What are the city and the phone number of Azit?",
            "Azit is in Tiburon, its phone number is 456-655-1536.",
            (azit, city),
            (azit, phone),
        ),
        *(
            question(f"lookup_3x4-{i:04}", "value", f"What is the {slot} of Azit?", text, key)
            for i, (slot, text, key) in enumerate(
                [
                    (city, "The city is Tiburon.", (azit, city)),
                    (rating, "The rating is 3.6.", (azit, rating)),
                    (phone, "The phone number is 456-655-1536.", (azit, phone)),
                ]
            )
        ),
    ]


def write_questions(file: Path, items: list[dict[str, Any]] | None = None) -> Path:
    """The questions in a file; gzipped where its name says so."""
    lines = "".join(json.dumps(item) + "\n" for item in (objects() if items is None else items))
    file.write_bytes(gzip.compress(lines.encode()) if file.suffix == ".gz" else lines.encode())
    return file
