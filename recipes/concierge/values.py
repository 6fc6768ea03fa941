"""Values of facts: their kinds, the surface forms people use for them, and fresh samples.

Every value of a training dialogue is replaced by a fresh one, consistently in the facts, the
history and the answer, so that the only way to get an answer right is to look the value up.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Mapping, Sequence

MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]
SMALL_NUMBERS = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
]
MONEY_SLOTS = {
    "price",
    "fare",
    "total_price",
    "ride_fare",
    "price_per_night",
    "price_per_ticket",
    "price_per_day",
    "total",
    "rent",
}
CITY_SLOTS = {
    "city",
    "location",
    "destination",
    "destination_city",
    "origin",
    "origin_city",
    "where_to",
    "from_location",
    "to_location",
    "pickup_city",
    "city_of_event",
    "from_city",
    "to_city",
    "from",
    "to",
}
CAPITALS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
ENDS = ("", "", "", "n", "r", "l", "s", "ck", "th", "nd")
POOL_SPLIT_SIZE = 40  # a pool of at least this many values keeps a tenth for evaluation only
RELATIVE_DATE = re.compile(
    r"\b(?:the )?(?:day after tomorrow|today|tomorrow|later this week"
    r"|(?:(?:this|next|coming|following) )*(?:mon|tues|wednes|thurs|fri|satur|sun)day"
    r"(?: (?:next|this) week)?)\b",
    re.IGNORECASE,
)


def hash_bucket(text: str, buckets: int = 10) -> int:
    """Return a bucket of ``text`` that is the same in every process."""
    return int(hashlib.md5(text.encode()).hexdigest()[:8], 16) % buckets


def kind_of(slot: str, value: str) -> str:
    """Return the kind of a value: money, rate, phone, clock, date, address, number or text."""
    if slot in MONEY_SLOTS and re.fullmatch(r"[\d.]+", value):
        return "money"
    if "rating" in slot and re.fullmatch(r"[\d.]+", value):
        return "rate"
    if "phone" in slot:
        return "phone"
    if re.fullmatch(r"\d\d:\d\d", value):
        return "clock"
    if re.fullmatch(r"\d{4}-\d\d-\d\d", value):
        return "date"
    if "address" in slot:
        return "address"
    if re.fullmatch(r"[\d.]+", value):
        return "number"
    return "text"


def pool_of(slot: str) -> str:
    """Return the name of the pool a text slot draws from; all cities share one."""
    return "city" if slot in CITY_SLOTS else slot


def ordinal(day: int) -> str:
    """Write a day of the month: 1st, 2nd, 3rd, 4th."""
    suffix = "th" if 10 <= day % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")
    return f"{day}{suffix}"


def clock(hour: int, minute: int) -> str:
    """Write a time of day as people say it: 7 pm, 7:30 pm."""
    half = "am" if hour % 24 < 12 else "pm"
    shown = hour % 12 or 12
    return f"{shown} {half}" if minute == 0 else f"{shown}:{minute:02d} {half}"


def surface_forms(kind: str, value: str) -> list[str]:
    """Return the ways a canonical value may be written in a dialogue, the preferred one first."""
    if kind == "clock":
        hour, minute = map(int, value.split(":"))
        form = clock(hour, minute)
        dotted = form.replace("am", "a.m.").replace("pm", "p.m.")
        return [form, dotted, form.replace(" ", ""), value, f"{hour % 12 or 12}:{minute:02d}"]
    if kind == "date":
        _, month, day = (int(part) for part in value.split("-"))
        name, nth = MONTHS[month - 1], ordinal(day)
        return [
            f"{name} {nth}",
            f"the {nth} of {name}",
            f"{nth} of {name}",
            f"{nth} {name}",
            f"{name} {day}",
            f"the {nth}",
            nth,
        ]
    if kind == "money":
        return [f"${value}", f"$ {value}", f"{value} dollars", f"{value} USD", value]
    if kind == "number" and value.isdigit() and int(value) <= 10:
        return [value, SMALL_NUMBERS[int(value)]]
    return [value]


def made_up_name(rng: random.Random) -> str:
    """Make a name of random syllables, so that spelling out unknown names is learned too.

    Some words are capitals or numbers, as in BAM or Pier 39: such names come apart into pieces.
    """
    words = []
    for _ in range(rng.randint(1, 3)):
        if rng.random() < 0.2:
            words.append("".join(rng.choice(CAPITALS) for _ in range(rng.randint(1, 4))))
            continue
        if words and rng.random() < 0.1:
            words.append(rng.choice(("&", "of", "the", str(rng.randint(2, 99)))))
        syllables = (
            rng.choice("bcdfghjklmnprstvwz") + rng.choice("aeiou") + rng.choice(ENDS)
            for _ in range(rng.randint(1, 3))
        )
        words.append("".join(syllables).capitalize())
    return " ".join(words)


def fresh_text(pool: Sequence[str], rng: random.Random) -> str:
    """Draw a name from the pool; at times make one up or join halves of two."""
    drawn = rng.choice(pool)
    if len(pool) > 2 * POOL_SPLIT_SIZE and rng.random() < 0.2:
        return made_up_name(rng)
    if len(pool) > POOL_SPLIT_SIZE and rng.random() < 0.35:
        first, second = drawn.split(), rng.choice(pool).split()
        if len(first) > 1 and len(second) > 1:
            return " ".join(first[: (len(first) + 1) // 2] + second[len(second) // 2 :])
    return drawn


def fresh_value(
    kind: str, slot: str, value: str, pools: Mapping[str, Sequence[str]], rng: random.Random
) -> str:
    """Return a new written value of the same kind; small categories keep their value."""
    if kind == "clock":
        minute = rng.choice((0, 0, 15, 30, 45)) if rng.random() < 0.6 else rng.randint(0, 59)
        return clock(rng.randint(6, 23), minute)
    if kind == "date":
        return f"{rng.choice(MONTHS)} {ordinal(rng.randint(1, 28))}"
    if kind == "money":
        low, high = rng.choice(((10, 99), (100, 999), (100, 999), (1000, 4999)))
        return f"${rng.randint(low, high)}"
    if kind == "rate":
        return (
            f"{rng.randint(2, 4)}.{rng.randint(1, 9)}" if "." in value else str(rng.randint(1, 5))
        )
    if kind == "phone":
        return f"{rng.randint(200, 989)}-{rng.randint(200, 989)}-{rng.randint(0, 9999):04d}"
    if kind == "number":
        if value in ("0", "1") or "." in value:
            return value
        return str(rng.randint(2, 9) if len(value) == 1 else rng.randint(10, 99))
    pool = pools.get(pool_of(slot), ())
    if len(pool) < POOL_SPLIT_SIZE:
        return surface_forms(kind, value)[0]
    if kind == "address":  # new house numbers, but no new ordinals: 6nd Avenue
        return re.sub(r"\d(?=\d*(?:\W|$))", lambda _: str(rng.randint(1, 9)), rng.choice(pool))
    return fresh_text(pool, rng)


def split_pool(pool: Sequence[str], held_out: bool) -> list[str]:
    """Return the training or the evaluation part of a pool; a small pool is shared by both."""
    if len(pool) < POOL_SPLIT_SIZE:
        return list(pool)
    return [value for value in pool if (hash_bucket(value) == 0) == held_out]
