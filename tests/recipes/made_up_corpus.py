"""A small corpus of made-up dialogues and templates for tests of the recipe."""

from __future__ import annotations

import re

from recipes.concierge.data import Corpus
from recipes.concierge.dialogues import Dialogue, cut_values
from recipes.concierge.templates import Bank, Key, Mined

NAMES = ("Red", "Green", "Old", "New", "North", "South", "Upper", "Lower", "Little", "Great")
THINGS = ("Mill", "Lake", "Tower", "Garden", "Bridge", "Door")
POOL_NAMES = (
    "restaurant_name", "hotel_name", "attraction_name", "event_name", "movie_name", "airlines",
    "car_name", "doctor_name", "dentist_name", "stylist_name", "city", "venue", "theater_name",
    "pickup_location", "origin_airport", "destination_airport", "from_station", "to_station",
)  # fmt: skip
SMALL = {
    "cuisine": ["Thai", "Greek"],
    "price_range": ["moderate", "expensive"],
    "car_type": ["Compact", "Standard"],
}
OFFERS = ["How about {name}?", "I found {name} in {city}.", "There is {name} at {address}."]
INFORMS = ["It is in {city}.", "The address is {address}.", "You can call {phone number}."]


def pool(name: str, held: bool) -> list[str]:
    """Values of a pool; those of training and those held out have no word in common."""
    letter = name[:2].capitalize()
    things = [f"{t}{letter}{'h' if held else ''}" for t in THINGS]
    numbers = range(3 if held else 8)
    return [f"{NAMES[n]}{'h' if held else ''} {thing}" for n in numbers for thing in things]


def pools(held: bool) -> dict[str, list[str]]:
    found = {name: pool(name, held) for name in POOL_NAMES}
    for name, street in (("street_address", "Lane"), ("venue_address", "Square")):
        found[name] = [f"{n} {v} {street}" for n, v in enumerate(pool(name, held), 10)]
    return {**found, **SMALL}


def raw_dialogue(number: int) -> dict[str, object]:
    """A dialogue that asks for the phone number of a restaurant and books it."""
    name, phone, city = f"Blue Door {number}", f"555-555-{number:04d}", "Porto"
    return {
        "id": f"made-up-{number}",
        "services": ["Restaurants_1"],
        "turns": [
            {"speaker": "user", "text": f"I want to eat in {city}.",
             "acts": [["INFORM", "city", [city]]]},
            {"speaker": "system", "text": f"How about {name} in {city}?",
             "acts": [["OFFER", "restaurant_name", [name]], ["OFFER", "city", [city]]],
             "results": [{"restaurant_name": name, "city": city, "phone_number": phone},
                         {"restaurant_name": "Old Oak", "city": city,
                          "phone_number": "555-555-9942"}]},
            {"speaker": "user", "text": "What is the phone number?",
             "acts": [["REQUEST", "phone_number", []]]},
            {"speaker": "system", "text": f"You can call {phone}.",
             "acts": [["INFORM", "phone_number", [phone]]]},
        ],
    }  # fmt: skip


def dialogues(first: int, count: int) -> list[Dialogue]:
    return [cut_values(raw_dialogue(n)) for n in range(first, first + count)]


def mined() -> Mined:
    found = Mined()
    for counts in (found.train, found.unseen):
        for role, texts in (("offer", OFFERS), ("confirm", OFFERS), ("inform", INFORMS)):
            for text in texts:
                slots = tuple(sorted(re.findall(r"\{([a-z ]+)\}", text)))
                counts[Key("", role, slots)][text] = 4
    return found


def corpus() -> Corpus:
    """Dialogues of training and two held-out sets, pools without common values, templates."""
    banks = {part: Bank(mined(), part) for part in ("train", "held", "unseen")}
    parts = (dialogues(0, 30), dialogues(100, 30), dialogues(200, 30))
    return Corpus(*parts, pools=pools(held=False), held_pools=pools(held=True), banks=banks)
