"""Where the object of a statement ends, and whether it looks like one.

An object that looks odd is no object: a fact left out can still be found in the event itself, a
wrong one misleads.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from tenfold.memory.derive.dates import MONTHS
from tenfold.memory.derive.names import NO_NAMES


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_STOP = re.compile(
    r"[;()\[\]|\n—–]|:(?=\s|$)|\s-\s|[.!?…]+(?=\s|$)"
    r"|,?\s+(?:but|because|since|when|while|whenever|if|unless|although|though|so|which|who|whom"
    r"|where|until|before|after|that|however|except|instead|as|than|then|due|thanks|even|plus|yet"
    r"|and (?:I|he|she|we|they|it|you|my|his|her|our|their|so|then|also|that|this|there|not)"
    r"|,?\s*and\s+[A-Z]\w+ (?:is|has|likes|loves|lives|works|hates))\b"
)
_RATHER = re.compile(r"\s+(?:to|over|rather|instead)\b")
_TAIL = re.compile(
    r"[\s,]+(?:now|currently|any\s?more|any longer|these days|nowadays|at the moment|too|as well"
    r"|very much|a lot|so much|right now|again|already|by the way|today|the most|the best|myself"
    r"|personally|in general|most|either|at all|honestly|please|really|actually|instead|for now"
    r"|btw|lol|haha|yet|back|\W+)$",
    re.IGNORECASE,
)
_LISTED = re.compile(r"\s*,\s*(?:and|or)\s+|\s+(?:and|or|nor|&)\s+|\s*,\s*")
# Without a comma before them these say which ones: "I love stories that end well".
_WHICH = re.compile(
    r"\s+(?:that|who|whom|which|where|when|while|whenever|if|unless|until|before|after|as|than|so)\b"
)
_OF = re.compile(r"\s(?:about|of|with|without|in|for|to|from|on|at|by)\s")
_EVERYBODYS = re.compile(
    r"the (?:[A-Z]|(?:sea|ocean|beach|mountains|outdoors|rain|snow|countryside|cold|heat|sun|forest"
    r"|desert|piano|guitar|violin|cello|drums|flute|opera|theatre|theater|cinema|summer|winter)\b)"
)
_AND = re.compile(r"(?:^|\s)(?:and|or|nor|&)\s")
_ARTICLE = re.compile(r"^(?:a|an|the|any|some|no)\s+(?=\S)")
# Pronouns and places pointed at: what they mean is not in the sentence.
_POINTING = _set(
    """
it this that these those you him them her she he we they i me us here there one ones something
anything everything nothing someone everyone what how when where why your yours his their its our
such same
"""
)
_VERBS = _set(
    """
is are was were am be been do does did has have had can could will would should may might must go
goes went work works worked live lives lived hate hates like likes love loves want wants need
needs think thinks never always usually don't doesn't didn't can't won't not get gets got make
makes take takes see seems feel feels play plays eat eats drink drinks prefer prefers let's it's
that's he's she's i'm i've i'd i'll you're they're we're
"""
)
_PREPOSITIONS = re.compile(
    r"\s+(?:at|on|in|with|for|every|from|during|about|around|near|by|twice|once|three times|daily"
    r"|on weekends|all|each|to|without|together|professionally|regularly|often|sometimes)\b.*"
)
_NO_THING = _set(
    """
at in on out with for to from up too lot lots much more less well hard every often there alone
together about around like healthy healthily better early late enough only just quite a few
"""
)
_DETERMINER = re.compile(
    r"(?:a|an|another|one|two|three|four|five|six|seven|eight|nine|ten|\d{1,3}|no|any)\s+(?=\w)"
)
_PASSING = _set(
    """
look question questions problem problems idea ideas meeting meetings feeling feelings doubt point
chance lot bit little good great nice bad hard tough lovely fun time times day days break moment
minute minutes second sense clue plan plans appointment call thing things few couple reason choice
right suggestion request hunch blast ball sip bite snack chat talk date dream while week weekend
rough long busy crazy weird amazing wonderful terrible awful interest issue issues hour hours mess
wreck member part sucker trip flight reservation booking favor favour mistake error hell ton bunch
better bigger worse clear different mix combination recipe role fan kind person huge big real true
total complete former longer
"""
)
_PEOPLES = _set(
    """
american british english irish scottish welsh french german italian spanish portuguese dutch
belgian swiss austrian polish czech slovak hungarian romanian bulgarian greek turkish russian
ukrainian swedish norwegian danish finnish icelandic estonian latvian lithuanian croatian serbian
bosnian slovenian albanian chinese japanese korean vietnamese thai indian pakistani bangladeshi
nepali indonesian malaysian filipino australian canadian mexican brazilian argentinian chilean
colombian peruvian cuban egyptian moroccan tunisian algerian nigerian kenyan ethiopian ghanaian
iranian iraqi israeli lebanese syrian saudi african european asian jewish muslim catholic
protestant buddhist hindu sikh christian
"""
)
_TRAITS = _set(
    """
vegetarian vegan pescatarian married single divorced widowed engaged pregnant left-handed
right-handed diabetic asthmatic deaf blind colour-blind color-blind colourblind colorblind retired
unemployed self-employed dyslexic bilingual autistic celiac coeliac teetotal
"""
) | {"lactose intolerant", "lactose-intolerant", "gluten intolerant", "gluten-intolerant"}
_CAPITALISED = r"[^\W\d_a-z][\w'.-]*"
_SPAN = re.compile(
    rf"(?:the |The )?{_CAPITALISED}(?:[ ](?:(?:of|de|da|do|del|la|le) )*{_CAPITALISED})*"
)
_MONTH = "|".join(f"{m[:3]}(?:{m[3:]})?" for m in MONTHS)
# A value in words of its own: up to the sentence's end, or to what is said next.
_VALUE_ENDS = (
    r"(?=[.!?]?\s*$|[.!?;]\s|,?\s+(?:and|but|because|since|so|if|with|for now)\b"
    r"|,?\s+(?:please|now|instead|thanks|thank you)[.!]*\s*$|,\s+(?:the|my|I|not)\b)"
)
_NO_VALUE = r"(?!(?:not|no|that|this|what|still|too|so|very|the same|up to)\b)"
_SHAPES = {
    "email": re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"),
    "phone": re.compile(r"\+?[\d(][\d\s().-]{5,18}\d"),
    "code": re.compile(r"(?=[\w -]*[\d+-])[A-Z]{0,2}[\d][\w -]{0,9}|(?:AB|A|B|0|O)[+-]"),
    "age": re.compile(r"(\d{1,3})(?=\s*(?:years? old|$|[.,;!]| and\b))"),
    "address": re.compile(r"[^.;|]*\d[^;|]*"),
    "amount": re.compile(rf"(?=[^.,;|]*\d)\$?[^\W_][^;|]{{0,39}}?{_VALUE_ENDS}"),
    "setting": re.compile(rf"{_NO_VALUE}[^\W_][^;|]{{0,59}}?{_VALUE_ENDS}"),
    "date": re.compile(
        rf"(?:the )?\d{{1,2}}(?:st|nd|rd|th)?(?: of)? (?:{_MONTH})\b(?:,? \d{{4}})?"
        rf"|(?:{_MONTH})\b\.? \d{{1,2}}(?:st|nd|rd|th)?(?!\d)(?:,? \d{{4}})?|\d{{4}}-\d\d-\d\d",
        re.IGNORECASE,
    ),
}


def cut_objects(form: str, many: bool, said: str) -> list[str]:
    """The objects at the start of what was said, in their own words, of the given form.

    Forms: `liking`, `preferred` and `thing` are phrases, `owned` one after "a" or a number, `name`,
    `place` and `language` are capitalised, `company` may be, `trait` is one of few words,
    `introduction` a name after "I'm"; the others are shapes. Without `many` only the first counts.
    """
    if form in _SHAPES:
        match = _SHAPES[form].match(said.strip())
        return [match[0].rstrip(" .,!-")] if match else []
    stop = _STOP.search(said)
    if stop and form in _WHOLE and _WHICH.match(stop[0]):
        return []
    said = said[: stop.start() if stop else len(said)].strip()
    if form == "preferred" and not said.startswith("to "):
        said = _RATHER.split(said, maxsplit=1)[0]
    check = _FORMS[form]
    items = _items(said) if many else [_LISTED.split(said, maxsplit=1)[0]]
    objects: list[str] = []
    for item in items:
        item = _without_tail(item)
        found = check(item)
        if not found or (objects and len(item.split()) > 4):
            break
        if objects and form in _WHOLE and not _joins(item, items[0]):
            break
        objects.append(found)
    return objects


def _joins(item: str, first: str) -> bool:
    """Whether an item goes on with the list, and not with the end of the first one.

    "Going to museums and parks" likes no parks; "watching films and exploring nature" both.
    """
    if item.split()[0].endswith("ing"):
        return True
    return not first.split()[0].endswith("ing") and not _OF.search(first)


def _items(said: str) -> list[str]:
    """The items of a list; without "and" or "or" a comma ends the object."""
    commas = said.split(",")
    joined = next(
        (i for i, part in enumerate(commas) if re.search(r"(?:^|\s)(?:and|or|nor|&)\s", part)), 0
    )
    return _LISTED.split(",".join(commas[: joined + 1]))


def _without_tail(item: str) -> str:
    while True:
        cut = _TAIL.sub("", item.strip())
        if cut == item:
            return item.strip(" ,.!'\"")
        item = cut


def _words(item: str) -> list[str]:
    return item.lower().split()


def _phrase(item: str, longest: int = 6) -> str | None:
    words = _words(item)
    if not words or words == ["to"] or len(words) > longest or _POINTING.intersection(words):
        return None
    return (
        None if _VERBS.intersection(words) and words[0] != "to" else _ARTICLE.sub("", item, count=1)
    )


def _liking(item: str) -> str | None:
    if item.startswith("the ") and not _EVERYBODYS.match(item):
        return None  # the one that was just talked about
    return _phrase(item)


def _thing(item: str) -> str | None:
    cut = _PREPOSITIONS.sub("", f" {item}").strip()
    if re.match(r"\s*with", item[len(cut) :]):
        return None  # animals with fur are not all animals
    phrase = _phrase(cut, 4)
    if not phrase or _words(phrase)[0] in _NO_THING or _words(phrase)[-1] in ("role", "part"):
        return None
    return phrase


def _owned(item: str) -> str | None:
    if not _DETERMINER.match(item) or _PASSING.intersection(_words(item)[1:4]):
        return None
    return _phrase(_PREPOSITIONS.sub("", item), 6)


def _capitalised(item: str) -> str | None:
    """The capitalised words that an item begins with."""
    match = _SPAN.match(item)
    if not match or not match[0].removeprefix("the ")[0].isupper():
        return None
    name = match[0].rstrip(".'-").removesuffix("'s")
    first = name.lower().removeprefix("the ").split()[0]
    return None if first in NO_NAMES else name.removeprefix("the ")


def _name(item: str) -> str | None:
    """A name and nothing more: not the German of "my boss is German"."""
    name = _capitalised(item)
    if not name or name.lower().split()[0] in _PEOPLES or len(name.split()) > 3:
        return None
    return name if len(item) - len(name) < 2 else None


def _place(item: str) -> str | None:
    name = _capitalised(item)
    return name if name and name.lower() not in _PEOPLES else None


def _language(item: str) -> str | None:
    name = _capitalised(item)
    return name if name and len(name.split()) < 4 else None


def _company(item: str) -> str | None:
    return _capitalised(item) or (
        _phrase(_PREPOSITIONS.sub("", item), 5) if re.match(r"(?:an?|the)\s", item) else None
    )


def _trait(item: str) -> str | None:
    lowered = item.lower()
    return item if lowered in _TRAITS or (lowered in _PEOPLES and item[0].isupper()) else None


# Of these forms a part of the object is not the object.
_WHOLE = frozenset(["liking", "preferred", "thing"])
_FORMS: dict[str, Callable[[str], str | None]] = {
    "liking": _liking,
    "preferred": _liking,
    "thing": _thing,
    "owned": _owned,
    "name": _name,
    "place": _place,
    "language": _language,
    "company": _company,
    "trait": _trait,
    "introduction": _name,
}
