"""The words of composed episodes: record schemas, questions, answers and general turns."""

from __future__ import annotations

_CITY = ("city", "text", "")
_ADDRESS = ("street_address", "address", "12 Main Street")
_PHONE = ("phone_number", "phone", "555-555-0100")
_RATING = ("average_rating", "rate", "4.1")

# noun -> (slot, kind, a value of that kind)
SCHEMAS: dict[str, list[tuple[str, str, str]]] = {
    "restaurant": [
        _CITY,
        _ADDRESS,
        _PHONE,
        ("cuisine", "text", ""),
        ("price_range", "text", ""),
        _RATING,
    ],
    "hotel": [
        _CITY,
        _ADDRESS,
        _PHONE,
        ("star_rating", "rate", "3"),
        ("price_per_night", "money", "90"),
        ("check_in_time", "clock", "15:00"),
    ],
    "attraction": [
        _CITY,
        _PHONE,
        ("opening_time", "clock", "09:00"),
        ("price", "money", "12"),
        _ADDRESS,
    ],
    "event": [
        _CITY,
        ("venue", "text", ""),
        ("venue_address", "address", "1 Main Street"),
        ("date", "date", "2019-03-01"),
        ("time", "clock", "19:00"),
        ("price_per_ticket", "money", "60"),
    ],
    "flight": [
        ("departure_date", "date", "2019-03-01"),
        ("outbound_departure_time", "clock", "10:00"),
        ("outbound_arrival_time", "clock", "14:00"),
        ("price", "money", "210"),
        ("number_stops", "number", "2"),
        ("origin_city", "text", ""),
        ("destination_city", "text", ""),
    ],
    "car": [
        ("car_type", "text", ""),
        ("pickup_location", "text", ""),
        ("pickup_time", "clock", "10:00"),
        ("total_price", "money", "120"),
        ("pickup_date", "date", "2019-03-01"),
    ],
    "doctor": [_CITY, _ADDRESS, _PHONE, _RATING],
    "dentist": [_CITY, _ADDRESS, _PHONE],
    "hair stylist": [_CITY, _ADDRESS, _PHONE, _RATING],
}
# noun -> (slot that names it, yes-or-no slots)
NAMED_BY: dict[str, tuple[str, tuple[str, ...]]] = {
    "restaurant": (
        "restaurant_name",
        ("has_live_music", "serves_alcohol", "has_seating_outdoors", "has_vegetarian_options"),
    ),
    "hotel": ("hotel_name", ("has_wifi", "pets_welcome", "smoking_allowed")),
    "attraction": ("attraction_name", ("free_entry", "good_for_kids")),
    "event": ("event_name", ()),
    "flight": ("airlines", ("refundable", "is_redeye")),
    "car": ("car_name", ()),
    "doctor": ("doctor_name", ()),
    "dentist": ("dentist_name", ("offers_cosmetic_services",)),
    "hair stylist": ("stylist_name", ("is_unisex",)),
}
QUESTIONS: tuple[str, ...] = (
    "What is the {w} of {n}?",
    "Can you tell me the {w} of {n}?",
    "I need the {w} of {n}.",
    "What is the {w}?",
    "And the {w}?",
    "Could you give me the {w} for {n}, please?",
    "What {w} does {n} have?",
    "Can you tell me the {w}, please?",
)
# Answers that repeat a sentence of the facts come first: the words before the value lead to it.
ANSWERS: dict[str, int] = {
    "For {n} the {w} is {v}.": 12,
    "The {w} of {n} is {v}.": 5,
    "The {w} is {v}.": 2,
}
SLOT_QUESTIONS: dict[str, tuple[str, ...]] = {
    "phone number": ("How can I call {n}?", "How do I reach {n}?", "How can I call them?"),
    "address": ("Where is {n}?", "Where is it?", "How do I find {n}?"),
    "city": ("Which city is {n} in?", "What city is that in?"),
    "price": ("How much is {n}?", "How much does it cost?"),
    "total price": ("How much is {n}?", "How much does it cost?"),
    "price per night": ("How much is a night at {n}?", "How much is a night?"),
    "price per ticket": ("How much is a ticket for {n}?", "How much is a ticket?"),
    "time": ("When does {n} start?", "When does it start?"),
    "date": ("What day is {n}?", "Which day is it?"),
    "departure time": ("When does {n} leave?", "When does it leave?"),
    "arrival time": ("When does {n} arrive?", "When does it arrive?"),
    "rating": ("How is {n} rated?", "How good is it?"),
    "cuisine": ("What kind of food does {n} serve?", "What kind of food do they serve?"),
    "number of stops": ("How many stops does {n} have?",),
}
SLOT_ANSWERS: dict[str, tuple[str, ...]] = {
    "phone number": (
        "You can reach {n} at {v}.",
        "You can call them at {v}.",
        "Their number is {v}.",
    ),
    "address": ("{n} is located at {v}.", "They are at {v}.", "You can find it at {v}."),
    "city": ("{n} is in {v}.", "It is in {v}."),
    "price": ("It costs {v}.", "{n} costs {v}."),
    "total price": ("It costs {v}.", "{n} costs {v} in total."),
    "price per night": ("A night at {n} costs {v}.", "It costs {v} per night."),
    "price per ticket": ("A ticket for {n} costs {v}.", "It costs {v} per ticket."),
    "time": ("{n} starts at {v}.", "It starts at {v}."),
    "date": ("{n} is on {v}.", "It takes place on {v}."),
    "departure time": ("{n} leaves at {v}.", "It leaves at {v}."),
    "arrival time": ("{n} arrives at {v}.", "It arrives at {v}."),
    "rating": ("{n} has a rating of {v}.", "It is rated {v}."),
    "cuisine": ("{n} serves {v} food.", "They serve {v} food."),
    "number of stops": ("It has {v} stops.",),
}
LIST_QUESTIONS: tuple[str, ...] = (
    "What {noun}s do you have?",
    "Which {noun}s can you offer?",
    "I need a {noun}.",
    "Can you list the {noun}s for me?",
    "Please show me my options.",
    "What are my options?",
)
EACH_QUESTIONS: tuple[str, ...] = (  # {asked} is "the names" or "the city and the price"
    "Tell me {asked} of each {noun}.",
    "What are {asked} of all the {noun}s?",
    "For every {noun} I need {asked}.",
    "Go through the {noun}s with {asked}.",
)
RECOMMEND_QUESTIONS: tuple[str, ...] = (
    "Can you recommend a {noun}?",
    "Please suggest a {noun}.",
    "Which {noun} would you recommend?",
)
GREETINGS: tuple[tuple[str, str], ...] = (
    ("Hello", "Hello! How can I help you today?"),
    ("Hi!", "Hi, what can I do for you?"),
    ("Good morning.", "Good morning! How may I help you?"),
    ("Hi there", "Hello! What are you looking for?"),
    ("Good evening", "Good evening! How can I help you?"),
    ("Hey", "Hello! How can I help you?"),
    ("Who are you?", "I am a small concierge. I answer questions from the facts you give me."),
    (
        "What can you do?",
        "I can look up hotels, restaurants, flights and events in the facts you give me.",
    ),
    ("How are you?", "I am fine, thank you. How can I help you today?"),
)
THANKS: tuple[tuple[str, str], ...] = (
    ("Thanks, that is all.", "You are welcome. Have a nice day!"),
    ("Thank you!", "You are welcome. Anything else?"),
    ("Bye", "Goodbye! Have a great day."),
    ("Thanks a lot, goodbye.", "Goodbye, enjoy your trip!"),
    ("Great, thank you.", "My pleasure. Is there anything else I can help you with?"),
    ("No, that will be all.", "Have a great day!"),
)
GENERAL: tuple[tuple[str, str], ...] = (
    ("I need a {noun}.", "Sure. Please give me the facts about the {noun}s you have in mind."),
    (
        "Can you find me a {noun} in {city}?",
        "I have no facts about a {noun} there yet. Please give me the details first.",
    ),
    (
        "What is the {w} of {n}?",
        "I am sorry, I have no facts about that. Please give me the details first.",
    ),
    (
        "Can you tell me the {w} of {n}?",
        "I am sorry, I have no facts about that. Please give me the details first.",
    ),
    ("Tell me about {n}.", "I am sorry, I have no facts about that yet."),
    (
        "I would like to go to {city}.",
        "That sounds nice! Please tell me what you need there and give me the facts about it.",
    ),
    (
        "What is the weather like?",
        "I am sorry, I cannot see the weather. I only know the facts you give me.",
    ),
    ("Tell me a joke.", "I am better at travel questions. How can I help you with your trip?"),
    (
        "Can you help me?",
        "Of course. What do you need: a hotel, a restaurant, a flight or an event?",
    ),
    ("Book a {noun} for me.", "I would be happy to help. Which {noun} do you mean, and for when?"),
)
