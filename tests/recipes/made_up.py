"""Made-up dialogues, values and templates, for tests that need no data."""

import random
import re
from typing import Any

from tokenizers import Tokenizer

from recipes.concierge.data import Corpus
from recipes.concierge.dialogues import Dialogue, cut_values
from recipes.concierge.episodes import Limits
from recipes.concierge.lookups import lookup_episode
from recipes.concierge.model import Shape
from recipes.concierge.templates import Bank, Key, Mined
from recipes.concierge.tokenizer import train_tokenizer

TINY = Shape(64, 2, 4, 64)  # the look-up that is laid out needs three heads in two layers
POOLS = {
    "restaurant_name": ["Blue Door", "The Copper Pot", "Nine Lanterns", "Ox", "Salt", "Red Tent"],
    "hotel_name": ["Harbour House", "Hotel Linden", "Inn One", "Pier", "Grand", "Elm Court"],
    "attraction_name": ["Glass Museum", "Old Mill", "Tower", "Zoo", "Lake", "Dome"],
    "event_name": ["Night Choir", "River Run", "Reds Vs Blues", "Alma", "Jay", "Song Day"],
    "movie_name": ["Sea", "Coral", "Winter", "Two Roads", "Harvest", "Iron Bridge"],
    "airlines": ["North Air", "Blue Wings", "East Air", "Delta", "Lark", "Sunjet"],
    "car_name": ["Panda", "Amazon", "Civic", "Polo", "Fiesta", "Clio"],
    "doctor_name": ["Ada Stone", "Ben Ray", "Cy Holm", "Di Fox", "Ed Moss", "Flo Hill"],
    "dentist_name": ["Bright Smile", "Dent", "Pearl", "Ivory", "Molar", "Crown"],
    "stylist_name": ["Curl Up", "Shear", "Bob", "Fringe", "Wave", "Strand"],
    "city": ["Oslo", "Porto", "Turin", "Bergen", "Lyon", "Ghent", "Bath", "Graz"],
    "street_address": [f"{n} Mill Lane" for n in range(10, 20)],
    "venue_address": [f"{n} Park Street" for n in range(10, 20)],
    "venue": ["Town Hall", "Arena", "The Barn", "Opera", "Club", "Dome Hall"],
    "cuisine": ["Thai", "Greek"],
    "price_range": ["moderate", "expensive"],
    "car_type": ["Compact"],
    "pickup_location": ["Central Station"],
}
NAMED = ["How about {name}?", "I found {name} in {city}.", "There is {name} at {address}."]
INFORM = ["It is in {city}.", "The address is {address}.", "You can call {phone number}."]

Act = tuple[str, str, str | None]


def turn(speaker: str, text: str, *acts: Act, **more: Any) -> dict[str, Any]:
    """Return a raw turn; an act is (act, slot, value), with None where there is no value."""
    written = [[act, slot, [] if value is None else [value]] for act, slot, value in acts]
    return {"speaker": speaker, "text": text, "acts": written, **more}


def raw(*turns: dict[str, Any], service: str = "Restaurants_1") -> dict[str, Any]:
    return {"id": "made-up", "services": [service], "turns": list(turns)}


def restaurant(name: str, city: str, phone: str) -> dict[str, str]:
    return {"restaurant_name": name, "city": city, "phone_number": phone}


RESULTS = [
    restaurant("Blue Door", "Porto", "555-555-0199"),
    restaurant("Old Oak", "Porto", "555-555-0142"),
]
RAW = raw(
    turn(
        "user",
        "I want to eat in Porto at 7:30 pm.",
        ("INFORM", "city", "Porto"),
        ("INFORM", "time", "19:30"),
    ),
    turn(
        "system",
        "How about Blue Door in Porto? Their number is 555-555-0199.",
        ("OFFER", "restaurant_name", "Blue Door"),
        ("OFFER", "city", "Porto"),
        ("INFORM", "phone_number", "555-555-0199"),
        results=RESULTS,
    ),
    turn("user", "Book it.", ("SELECT", "", None)),
    turn(
        "system",
        "A table at Blue Door at 7:30 pm on March 1st, is that right?",
        ("CONFIRM", "restaurant_name", "Blue Door"),
        ("CONFIRM", "time", "19:30"),
        ("CONFIRM", "date", "2019-03-01"),
    ),
)


def mined() -> Mined:
    """Return templates for every noun."""
    found = Mined()
    for counts in (found.train, found.unseen):
        for role, texts in (("offer", NAMED), ("confirm", NAMED), ("inform", INFORM)):
            for text in texts:
                slots = tuple(sorted(re.findall(r"\{([a-z ]+)\}", text)))
                counts[Key("", role, slots)][text] = 4
    return found


def bank(part: str = "train") -> Bank:
    """Return the templates of a part; ``unseen`` ones are all there, whatever their hash."""
    return Bank(mined(), part)


def small_corpus(dialogues: list[Dialogue] | None = None) -> Corpus:
    dialogues = dialogues or [cut_values(RAW)]
    banks = {"train": bank(), "held": bank("unseen"), "unseen": bank("unseen")}
    return Corpus(dialogues, dialogues, dialogues, POOLS, POOLS, banks)


def small_tokenizer(size: int = 400) -> Tokenizer:
    rng = random.Random(0)
    episodes = [lookup_episode(POOLS, Limits(), 0.2, rng) for _ in range(50)]
    return train_tokenizer([m.text for e in episodes for m in e.messages], size)
