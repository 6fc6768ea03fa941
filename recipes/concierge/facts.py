"""Write records as facts: short sentences; the words before a value are those an answer uses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

SLOT_WORDS = {
    "street_address": "address",
    "venue_address": "address",
    "address_of_location": "address",
    "location": "city",
    "destination": "destination",
    "where_to": "city",
    "city_of_event": "city",
    "average_rating": "rating",
    "outbound_departure_time": "departure time",
    "leaving_time": "departure time",
    "outbound_arrival_time": "arrival time",
    "inbound_departure_time": "return departure time",
    "inbound_arrival_time": "return arrival time",
    "leaving_date": "departure date",
    "origin_city": "origin",
    "destination_city": "destination",
    "from_location": "origin",
    "to_location": "destination",
    "from": "origin",
    "to": "destination",
    "from_city": "origin",
    "to_city": "destination",
    "from_station": "origin station",
    "to_station": "destination station",
    "journey_start_time": "departure time",
    "date_of_journey": "departure date",
    "travelers": "number of travelers",
    "passengers": "number of passengers",
    "num_passengers": "number of passengers",
    "group_size": "number of people",
    "transfers": "number of transfers",
    "price_per_day": "price per day",
    "stylist_name": "hair stylist",
    "dentist_name": "dentist",
    "doctor_name": "doctor",
    "therapist_name": "therapist",
    "event_name": "event",
    "attraction_name": "attraction",
    "movie_name": "movie",
    "title": "movie",
    "movie_title": "movie",
    "car_name": "car",
    "place_name": "hotel",
    "airlines": "airline",
    "number_stops": "number of stops",
    "count": "number of matches",
    "party_size": "number of people",
    "type": "type",
    "subcategory": "genre",
    "restaurant_name": "restaurant",
    "hotel_name": "hotel",
    "approximate_ride_duration": "ride time",
    "event_location": "venue",
    "number_of_seats": "number of seats",
}
FLAG_WORDS = {
    "has_live_music": ("has live music", "has no live music", "have live music"),
    "serves_alcohol": ("serves alcohol", "serves no alcohol", "serve alcohol"),
    "has_wifi": ("has wifi", "has no wifi", "have wifi"),
    "pets_welcome": ("welcomes pets", "does not welcome pets", "welcome pets"),
    "free_entry": ("has free entry", "has no free entry", "have free entry"),
    "good_for_kids": ("is good for kids", "is not good for kids", "suit kids"),
    "refundable": ("is refundable", "is not refundable", "allow refunds"),
    "is_redeye": ("is a red-eye", "is not a red-eye", "leave at night"),
    "has_laundry_service": (
        "has a laundry service",
        "has no laundry service",
        "have a laundry service",
    ),
    "shared_ride": ("is shared", "is not shared", "come as a shared ride"),
    "is_unisex": ("is unisex", "is not unisex", "serve everybody"),
    "offers_cosmetic_services": (
        "offers cosmetic services",
        "offers no cosmetic services",
        "offer cosmetic services",
    ),
    "smoking_allowed": ("allows smoking", "does not allow smoking", "allow smoking"),
    "has_seating_outdoors": (
        "has outdoor seating",
        "has no outdoor seating",
        "have outdoor seating",
    ),
    "has_vegetarian_options": (
        "has vegetarian options",
        "has no vegetarian options",
        "have vegetarian options",
    ),
}
GUEST = "the guest"


@dataclass(slots=True)
class FactRecord:
    """One record ready to be written: name, noun, (words, value) fields and (slot, yes) flags."""

    name: str
    noun: str
    fields: list[tuple[str, str]] = field(default_factory=list)
    flags: list[tuple[str, bool]] = field(default_factory=list)


def slot_words(slot: str) -> str:
    """Return the words for a slot: ``street_address`` -> ``address``."""
    return SLOT_WORDS.get(slot, slot.replace("_", " "))


def listed(words: Sequence[str], article: str = "the ") -> str:
    """Write "the city, the rating and the address"."""
    said = [article + word for word in words]
    return said[0] if len(said) == 1 else ", ".join(said[:-1]) + " and " + said[-1]


def with_article(noun: str) -> str:
    """Put "a" or "an" before ``noun``; what has no noun is something."""
    if not noun:
        return "something"
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def field_sentence(name: str, words: str, value: str) -> str:
    """Write one field; the slot stands right before the value so that attention finds it."""
    return f"For {name} the {words} is {value}."


def flag_sentence(name: str, slot: str, yes: bool) -> str:
    """Write one yes-or-no property; the subject starts the sentence."""
    words = FLAG_WORDS[slot][0 if yes else 1]
    return f"{name[0].upper()}{name[1:]} {words}."


def write_facts(records: list[FactRecord], guest: list[tuple[str, str]]) -> str:
    """Write all records, one per line in their order, then what is known of the guest's request."""
    lines = []
    for record in records:
        nameless = record.name == f"the {record.noun}"
        sentences = [
            f"There is {with_article(record.noun)}."
            if nameless
            else f"{record.name} is {with_article(record.noun)}."
        ]
        sentences += [field_sentence(record.name, words, value) for words, value in record.fields]
        sentences += [flag_sentence(record.name, slot, yes) for slot, yes in record.flags]
        lines.append(" ".join(sentences))
    if guest:
        lines.append(" ".join(field_sentence(GUEST, words, value) for words, value in guest))
    return "\n".join(lines)
