"""The words of long conversations that no human turn gives: requests, openings, plain sentences."""

from __future__ import annotations

OPENERS = (
    "I need a {noun}.",
    "Can you help me find a {noun}?",
    "I am looking for a {noun}.",
    "Which {noun}s do you have?",
    "Please show me the {noun}s.",
    "What {noun}s can you offer?",
)
# {asked} is "the city, the rating and the phone number" or "everything you know"
EACH = (
    "For each one give me {asked}.",
    "I want {asked} of each.",
    "Please tell me {asked} for every one.",
    "List them with {asked}.",
    "For every option I need {asked}.",
    "Show me {asked} of all of them.",
    "Go through them and say {asked} each time.",
    "Please name them all, with {asked}.",
)
EACH_FITTING = (
    "For each one that fits give me {asked}.",
    "I want {asked} of each that fits.",
    "Please tell me {asked} for every one like that.",
    "List those with {asked}.",
    "For every option of that kind I need {asked}.",
    "Show me {asked} of all of those.",
    "Go through those and say {asked} each time.",
    "Please name all of those, with {asked}.",
)
CONDITIONS = (
    "The {w} should be {v}.",
    "I only want those with the {w} {v}.",
    "Only where the {w} is {v}, please.",
    "The {w} has to be {v}.",
)
COMPARE = (
    "Compare {a} and {b}: I want {asked} of both.",
    "How do {a} and {b} compare? Give me {asked} of each.",
    "I cannot choose between {a} and {b}. Please tell me {asked} of both.",
    "What is the difference between {a} and {b}? I would like {asked} of each.",
    "{a} or {b}? Tell me {asked} of the two.",
    "Put {a} and {b} side by side, with {asked}.",
    "I like {a} and {b}. Can you give me {asked} for both?",
    "Please compare {a} with {b}. I need {asked} of each one.",
    "Now {a} against {b}: what are {asked} of both?",
)
RECAP = (
    "I choose {n}. Please repeat {asked}.",
    "Let us take {n}. Give me {asked}.",
    "Please recap {n} with {asked}.",
    "About {n}: tell me {asked}.",
    "{n} sounds good. Before I agree, read {asked} back to me.",
    "I want to go with {n}. Can you sum up {asked}?",
    "Please tell me {asked} of {n}.",
    "For {n} I need {asked}.",
    "Write down {asked} of {n} for me.",
)
RECAP_ALL = (
    "Tell me everything about {n}.",
    "I choose {n}. Please repeat all the details.",
    "Give me all the details of {n}.",
    "Please recap {n} with every detail.",
    "What do you know about {n}? I want everything.",
    "Let us take {n}. Read all the details back to me.",
    "{n} sounds good. Please sum up everything you have.",
    "I want to know everything you have on {n}.",
    "Write down all the details of {n} for me.",
)
ITINERARY = (
    "I have taken {a} and {b}. Write the whole plan with {asked} of both.",
    "My plan is {a} and then {b}. Please give me {asked} of each.",
    "We go with {a} and {b}. Put {asked} together for me.",
    "Let us do {a} first and then {b}. Recap {asked} of both.",
    "Make me an itinerary of {a} and {b}, with {asked}.",
    "Please sum up my trip: {a} and {b}, with {asked} of each.",
    "I want {a} and {b}. Read {asked} of both back to me.",
    "So it is {a} and {b}. Can you write down {asked} of each?",
)
MULTI = (
    "Give me {asked} of {n}.",
    "What are {asked} of {n}?",
    "Can you tell me {asked} of {n}, please?",
    "I would like to know {asked} of {n}.",
    "For {n}, please tell me {asked}.",
    "Could you look up {asked} of {n}?",
    "I need {asked} for {n}.",
    "Please find out {asked} of {n}.",
    "Tell me more about {n}: {asked}.",
)
MULTI_SAME = (
    "And what are {asked}?",
    "Please give me {asked} as well.",
    "Can you also tell me {asked}?",
    "I would also like to know {asked}.",
)
FOCUS = ("I like {n}.", "Let us look at {n}.", "{n} sounds good.", "About {n}.", "Now {n}.")
EVERYTHING = ("everything you know", "all the details", "every detail", "all you know")
FOUND = (
    "Here is what I found.",
    "Sure, here they are.",
    "I have found these for you.",
    "Let me list them.",
    "Of course. These are your options.",
)
NAMED_FIRST = ("I found {names}.", "There are {names}.", "These are {names}.", "I have {names}.")
COMPARING = ("Here is how they compare.", "Let me compare them.", "Sure, here are both.")
TELLING = ("Sure.", "Of course.", "Here you are.", "Gladly.")
PLANNING = ("Here is your plan.", "This is your itinerary.", "Here is everything together.")
INTRODUCE = {
    "options": (
        "One option is {name}.",
        "There is {name}.",
        "How about {name}?",
        "{name} is a good choice.",
        "I can offer {name}.",
    ),
    "compare": ("Let us look at {name}.", "This is what I know about {name}."),
    "recap": ("Here is what I know about {name}.", "These are the details of {name}."),
    "multi": ("Here is what I know about {name}.",),
    "itinerary": ("Your plan includes {name}.", "Your {noun} is {name}."),
}
PLAIN = "For {name} the {w} is {v}."
GENERIC = (
    "The {w} is {v}.",
    "Its {w} is {v}.",
    "The {w} here is {v}.",
    "As for the {w}, it is {v}.",
)
BOTH = (
    "For {a} the {w} is {v}, and for {b} the {w} is {u}.",
    "For {a} the {w} is {v} and for {b} it is {u}.",
    "With {a} the {w} is {v}, and with {b} the {w} is {u}.",
)
