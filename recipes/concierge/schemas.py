"""What records consist of in long conversations: their slots, kinds, and how to draw values."""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .facts import FactRecord, slot_words
from .values import fresh_value, made_up_name

# service -> (noun, slot that names a record); the latter is empty where records have no name
SERVICES: dict[str, tuple[str, str]] = {
    "Restaurants_1": ("restaurant", "restaurant_name"),
    "Restaurants_2": ("restaurant", "restaurant_name"),
    "Hotels_1": ("hotel", "hotel_name"),
    "Hotels_2": ("house", ""),
    "Hotels_3": ("hotel", "hotel_name"),
    "Hotels_4": ("hotel", "place_name"),
    "Events_1": ("event", "event_name"),
    "Events_2": ("event", "event_name"),
    "Events_3": ("event", "event_name"),
    "Movies_1": ("movie", "movie_name"),
    "Movies_2": ("movie", "title"),
    "Movies_3": ("movie", "movie_title"),
    "Flights_1": ("flight", "airlines"),
    "Flights_2": ("flight", "airlines"),
    "Flights_3": ("flight", "airlines"),
    "Flights_4": ("flight", "airlines"),
    "RentalCars_1": ("car", "car_name"),
    "RentalCars_2": ("car", "car_name"),
    "RentalCars_3": ("car", "car_name"),
    "Services_1": ("hair stylist", "stylist_name"),
    "Services_2": ("dentist", "dentist_name"),
    "Services_3": ("doctor", "doctor_name"),
    "Services_4": ("therapist", "therapist_name"),
    "Travel_1": ("attraction", "attraction_name"),
    "Buses_1": ("bus", ""),
    "Buses_2": ("bus", ""),
    "Buses_3": ("bus", ""),
    "Trains_1": ("train", ""),
    "RideSharing_1": ("ride", ""),
    "RideSharing_2": ("ride", ""),
}
# The services of one noun name the same thing differently.
_SAME: dict[tuple[str, str], str] = {
    ("hotel", "destination"): "city",
    ("hotel", "price"): "total price",
    ("house", "destination"): "city",
    ("car", "type"): "car type",
    ("flight", "fare"): "price",
    ("flight", "passengers"): "number of passengers",
    ("flight", "flight_class"): "seating class",
    ("bus", "fare"): "price",
    ("bus", "travelers"): "number of passengers",
    ("bus", "group_size"): "number of passengers",
    ("bus", "from_city"): "origin",
    ("bus", "to_city"): "destination",
    ("bus", "from_station"): "origin station",
    ("bus", "to_station"): "destination station",
    ("bus", "origin_station_name"): "origin station",
    ("bus", "destination_station_name"): "destination station",
    ("train", "from"): "origin",
    ("train", "to"): "destination",
    ("train", "from_station"): "origin station",
    ("train", "to_station"): "destination station",
    ("train", "journey_start_time"): "departure time",
    ("train", "date_of_journey"): "departure date",
    ("train", "total"): "total price",
    ("event", "category"): "category",
    ("event", "number_of_seats"): "number of tickets",
    ("movie", "theater_name"): "theater",
    ("movie", "directed_by"): "director",
    ("movie", "starring"): "lead actor",
    ("movie", "cast"): "lead actor",
    ("ride", "number_of_riders"): "number of riders",
    ("ride", "number_of_seats"): "number of riders",
}


def template_words(noun: str, slot: str) -> str:
    """Return the words for a slot of a noun, the same for all services of this noun."""
    return _SAME.get((noun, slot)) or slot_words(slot)


@dataclass(frozen=True, slots=True)
class Slot:
    """A slot: its words, kind and a value like it, its pool, or the few values it may have."""

    words: str
    kind: str
    like: str = ""
    pool: str = ""
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Schema:
    """The pool that names records of a noun (empty: they have no name) and their slots."""

    names: str
    slots: tuple[Slot, ...]


def _choice(words: str, *values: str) -> Slot:
    return Slot(words, "choice", choices=values)


def _clock(words: str) -> Slot:
    return Slot(words, "clock", "10:00")


def _date(words: str) -> Slot:
    return Slot(words, "date", "2019-03-01")


def _money(words: str) -> Slot:
    return Slot(words, "money", "90")


def _text(words: str, pool: str) -> Slot:
    return Slot(words, "text", "", pool)


def _few(words: str) -> Slot:
    """Return a slot of a small number, never one: the templates speak of several."""
    return _choice(words, "2", "3", "4", "5", "6")


SENSIBLE = {  # what things cost, where a draw from all prices would be odd
    "price": (12, 480),
    "price per night": (40, 690),
    "price per day": (20, 160),
    "price per ticket": (15, 240),
    "ride fare": (6, 90),
}
CITY = _text("city", "city")
ADDRESS = Slot("address", "address", "12 Main Street", "street_address")
PHONE = Slot("phone number", "phone", "555-555-0100")
RATING = Slot("rating", "rate", "4.1")
STARS = _choice("star rating", "2", "3", "4", "5")
CUISINES = (
    "Mexican", "Indian", "Italian", "Chinese", "Japanese", "Thai", "Greek", "French", "Korean",
    "American", "Vietnamese", "Seafood", "Vegetarian", "Ethiopian", "Peruvian", "Turkish",
)  # fmt: skip
GENRES = (
    "Action", "Comedy", "Drama", "Horror", "Animation", "Fantasy", "Mystery", "Romance",
    "Adventure", "Crime",
)  # fmt: skip
CLASSES = _choice("seating class", "Economy", "Premium Economy", "Business")
APPOINTMENT = (_date("appointment date"), _clock("appointment time"))
FLIGHT = (
    _text("origin", "city"),
    _text("destination", "city"),
    _date("departure date"),
    _clock("departure time"),
    _clock("arrival time"),
    _money("price"),
    _choice("number of stops", "2", "3"),
)
TRIP = (
    _text("origin", "city"),
    _text("destination", "city"),
    _date("departure date"),
    _clock("departure time"),
    _text("origin station", "from_station"),
    _text("destination station", "to_station"),
    _few("number of passengers"),
)
LONG_SCHEMAS: dict[str, Schema] = {
    "restaurant": Schema(
        "restaurant_name",
        (
            CITY, ADDRESS, PHONE, RATING, _choice("cuisine", *CUISINES),
            _choice("price range", "inexpensive", "moderate", "expensive", "very expensive"),
            _date("date"), _clock("time"), _few("number of people"),
        ),
    ),
    "hotel": Schema(
        "hotel_name",
        (
            CITY, ADDRESS, PHONE, RATING, STARS, _money("price per night"), _money("total price"),
            _date("check in date"), _date("check out date"), _few("number of rooms"),
        ),
    ),
    "event": Schema(
        "event_name",
        (
            CITY, _text("venue", "venue"),
            Slot("address", "address", "1 Main Street", "venue_address"), _date("date"),
            _clock("time"), _choice("category", "Pop", "Rock", "Jazz", "Country", "Baseball",
            "Basketball", "Soccer", "Football"), _few("number of tickets"), _money("price"),
        ),
    ),
    "movie": Schema(
        "movie_name",
        (
            CITY, _text("theater", "theater_name"), ADDRESS, _choice("genre", *GENRES),
            _date("show date"), _clock("show time"), _choice("show type", "regular", "3d", "imax"),
            _money("price"), _few("number of tickets"),
        ),
    ),
    "flight": Schema(
        "airlines",
        (
            *FLIGHT, _text("origin airport", "origin_airport"),
            _text("destination airport", "destination_airport"), CLASSES,
            _few("number of passengers"),
        ),
    ),
    "car": Schema(
        "car_name",
        (
            _choice("car type", "Standard", "Compact", "Full-size"),
            _text("pickup location", "pickup_location"), _text("pickup city", "city"),
            _date("pickup date"), _clock("pickup time"), _date("dropoff date"),
            _money("total price"),
        ),
    ),
    "hair stylist": Schema("stylist_name", (CITY, ADDRESS, PHONE, RATING, *APPOINTMENT)),
    "dentist": Schema("dentist_name", (CITY, ADDRESS, PHONE, *APPOINTMENT)),
    "doctor": Schema(
        "doctor_name",
        (
            CITY, ADDRESS, PHONE, RATING,
            _choice("type", "Dermatologist", "General Practitioner", "Ophthalmologist",
            "Gynecologist"), *APPOINTMENT,
        ),
    ),
    "attraction": Schema(
        "attraction_name",
        (
            CITY, PHONE, _choice("category", "Museum", "Park", "Garden", "Historical Landmark",
            "Theme Park", "Place of Worship"), _clock("opening time"), _money("price"), ADDRESS,
        ),
    ),
    "bus": Schema("", (*TRIP, _money("price"), _choice("fare type", "Economy", "Flexible"))),
    "ride": Schema(
        "",
        (
            Slot("destination", "address", "12 Main Street", "street_address"),
            _few("number of riders"), _money("ride fare"), _choice("wait time", "4", "6", "9"),
            _choice("ride type", "Regular", "Pool", "Luxury"),
        ),
    ),
    "house": Schema(
        "",
        (
            CITY, ADDRESS, PHONE, RATING, _money("total price"), _date("check in date"),
            _date("check out date"), _few("number of adults"),
        ),
    ),
}  # fmt: skip
UNSEEN_SCHEMAS: dict[str, Schema] = {
    "restaurant": Schema(
        "restaurant_name",
        (
            CITY, ADDRESS, PHONE, RATING,
            _choice("category", "Asian", "Steakhouse", "Seafood", "Breakfast", "Vegan", "Pizza"),
            _choice("price range", "cheap", "moderate", "pricey", "ultra high-end"),
            _date("date"), _clock("time"), _few("number of seats"),
        ),
    ),
    "hotel": Schema(
        "hotel_name",
        (
            CITY, ADDRESS, PHONE, STARS, _money("price per night"), _date("check in date"),
            _few("number of rooms"), _few("stay length"),
        ),
    ),
    "event": Schema(
        "event_name",
        (
            CITY, _text("venue", "venue"),
            Slot("address", "address", "1 Main Street", "venue_address"), _date("date"),
            _clock("time"), _choice("event type", "Music", "Theater"),
            _money("price per ticket"), _few("number of tickets"),
        ),
    ),
    "movie": Schema(
        "movie_name",
        (
            _text("director", ""), _text("lead actor", ""),
            _choice("genre", *GENRES), _choice("percent rating", "92", "83", "71", "66", "58"),
        ),
    ),
    "flight": Schema("airlines", (*FLIGHT, CLASSES, _few("number of passengers"))),
    "car": Schema(
        "car_name",
        (
            _choice("car type", "Sedan", "SUV", "Hatchback"), CITY,
            _text("pickup location", "pickup_location"), _clock("pickup time"),
            _date("start date"), _date("end date"), _money("price per day"),
        ),
    ),
    "therapist": Schema(
        "doctor_name",
        (
            CITY, ADDRESS, PHONE, _choice("type", "Psychologist", "Psychiatrist",
            "Family Counselor"), *APPOINTMENT,
        ),
    ),
    "bus": Schema("", (*TRIP, _money("price"))),
    "train": Schema("", (*TRIP[:6], _money("total price"), _few("number of adults"))),
}  # fmt: skip


def alternatives(value: str) -> tuple[str, ...]:
    """Return the small category that a value is of, such as the types of cars; () for others."""
    return _CATEGORY_OF.get(value, ())


_CATEGORY_OF = {
    value: slot.choices  # "regular" is a kind of show, "Regular" one of rides
    for schema in (*LONG_SCHEMAS.values(), *UNSEEN_SCHEMAS.values())
    for slot in schema.slots
    for value in slot.choices
    if not value.isdigit()
}


def draw_value(
    slot: Slot, taken: set[str], pools: Mapping[str, Sequence[str]], rng: random.Random
) -> str:
    """Draw a value not in ``taken`` where the slot has that many, and add it there."""
    if slot.choices:
        return rng.choice(slot.choices)
    low, high = SENSIBLE.get(slot.words, (0, 0)) if slot.kind == "money" else (0, 0)
    value = ""
    for _ in range(20):
        value = fresh_value(slot.kind, slot.pool, slot.like, pools, rng)
        if high:
            value = f"${rng.randint(low, high)}"
        pool = pools.get(slot.pool, ())
        if slot.kind in ("text", "address") and value == slot.like and pool:
            value = rng.choice(list(pool))
        if not value:
            value = made_up_name(rng)
        words = value.split()
        odd = any(a == b for a, b in itertools.pairwise(words))  # halves of two names may do this
        numeric = slot.kind == "address" and not any(c.isalpha() for c in value)
        if value not in taken and not odd and not numeric:
            break
    taken.add(value)
    return value


def draw_name(
    noun: str,
    schema: Schema,
    taken: set[str],
    pools: Mapping[str, Sequence[str]],
    rng: random.Random,
) -> str:
    """Draw a name; airlines and cars, of which people use few, are often made up."""
    if not schema.names:
        return f"the {noun}"
    if noun in ("flight", "car") and rng.random() < 0.4:
        name = made_up_name(rng)
        if noun == "flight":
            name = f"{name.split()[0]} {rng.choice(('Airlines', 'Airways', 'Air'))}"
        if name not in taken:
            taken.add(name)
            return name
    return draw_value(_text("name", schema.names), taken, pools, rng)


def draw_records(
    noun: str,
    schema: Schema,
    slots: Sequence[Slot],
    count: int,
    pools: Mapping[str, Sequence[str]],
    rng: random.Random,
) -> list[FactRecord]:
    """Draw records with these slots; only small categories may have the same value in two."""
    taken: set[str] = set()
    records = []
    for _ in range(count if schema.names else 1):
        name = draw_name(noun, schema, taken, pools, rng)
        fields = [(slot.words, draw_value(slot, taken, pools, rng)) for slot in slots]
        records.append(FactRecord(name, noun, fields))
    return records
