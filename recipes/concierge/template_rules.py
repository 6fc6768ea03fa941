"""What makes a human turn a template: cutting its values out, repairing it, and when to refuse."""

from __future__ import annotations

import re

from .values import MONTHS, SMALL_NUMBERS, surface_forms

MAX_WORDS = 30
HOLE = re.compile(r"\{([a-z ]+)\}")

# What the facts would not tell, or what only makes sense where the turn once stood.
_UNKNOWN = re.compile(
    r"\d|[$#&*|<>/()\"]|\b(?:"
    + "|".join(MONTHS + SMALL_NUMBERS[2:])
    + r"|today|tonight|tomorrow|weekend|\w+(?<=[a-z]{3})day|\w+days|morning|afternoon|evening|noon"
    r"|midnight|o'?clock|am|pm|a\.m|p\.m|dollars?|usd|bucks|next|following (?:day|week)|this week"
    r"|best|most|least|cheap\w*|expensive|inexpensive|affordable|moderate\w*|pric(?:e)?y|near\w*"
    r"|high(?:est|er)|low(?:est|er)|earli\w+|latest|later|closest|popular|famous|top|decent"
    r"|direct|non-?stop|connecting|round.?trip|one.?way|red-?eye|refund\w*|return\w*|airport"
    r"|wi-?fi|alcohol|music|vegetarian|pets?|smok\w+|laundry|outdoors?|outside|unisex|cosmetic"
    r"|insurance|luggage|kids|children|free|shared|sharing|alone|yourself"
    r"|another|others?|instead|only|sorry|unfortunately|however|but|different|again|still|earlier"
    r"|alternat\w+|match\w*|yes|no|nope|he|she|his|her|him|yours?elf|half|single|both|same|first"
    r"|second|third|extra|additional|unable|couldn't|not|isn't|don't|doesn't|didn't|won't|can't"
    r")\b",
    re.IGNORECASE,
)
_SHOWS = re.compile(
    r"\b(?:concert|game|song|band|singer|festival|sports?|performance|gig)s?\b", re.I
)
# "It is 7 pm." answers a question, but says nothing in a longer answer.
_BARE = re.compile(
    r"(?:It's|It is|That's|That is|They are|It will be|That would be|It would be|They have|It has)"
    r" (?:(?:for )?\{(?!cuisine|price range|genre)[a-z ]+\}"
    r"|(?:at|on|in) \{(?!city|address|venue)[a-z ]+\})\.?",
    re.IGNORECASE,
)
_STATEMENT = re.compile(r"(?:It|It's|Its|The|They|They're|Their|This|There's|There|That) ")
# Every sentence of an answer has a verb.
_VERB = re.compile(
    r"(?:'s|'re|'ll|'d)\b|\b(?:is|are|has|have|will|would|can|costs?|starts?|begins?|leaves?|departs?"
    r"|arrives?|takes?|runs?|serves?|offers?|found|see|opens?|gets?|goes|confirm|needs?|wants?|try"
    r"|check|like|recommend|suggest|lands?|directed|charges?|plays?|comes?|looks?|located"
    r"|situated|how about|what about|do you|call|reach|contact|there)\b",
    re.IGNORECASE,
)
_CLUMSY = re.compile(
    r"\bhow would you consider|\bkindly|\bcalled \{(?!name)|\byou looking|\bensure|\balso found"
    r"|\bis also|\byour welcome|\bcheck out at|\bthere is also|\bi also|\bis of \$?\{|\bit a\b"
    r"|\bnamed \{(?!name)|\bam find|^i would like|^i'd like|^your check"
    r"|\bis is\b|costs is\b|contact address",
    re.IGNORECASE,
)
_OUT_OF_PLACE = re.compile(r"\b(?:also|too|there|as well|destination|trip|meanwhile)\b", re.I)
_PROMISES = re.compile(
    r"\b(?:book\w*|reserv\w+|confirm\w*|success\w*|schedul\w+|purchas\w+|bought|done|rent(?:ed)?)\b",
    re.IGNORECASE,
)
_FILLERS = re.compile(
    r"^(?:(?:sure|okay|ok|yes|yeah|yep|alright|all right|well|great|certainly|of course|absolutely"
    r"|no problem|oh|so|hey|hi|hello|cool|perfect|thanks?|thank you)\b[,.! ]*)+",
    re.IGNORECASE,
)


def _lower(match: re.Match[str]) -> str:
    return f"The {match.group(1).lower()}"


_REPAIRS = (
    (r"\s+", " "),
    (r"\s+([.,?!:;])", r"\1"),
    (r"([.?!,;])(?=[A-Za-z{])", r"\1 "),
    (r"([.?!,])[.?!,]+", r"\1"),
    (r"\bi\b(?=[ ',])", "I"),
    (r"\b([Ii])ts (?=(?:located|at|in|on|a|an|called|the|going|starting|playing)\b)", r"\1t's "),
    (r"\b([Ii])t's (?=(?:address|phone|number|price|rating|location|average|user)\b)", r"\1ts "),
    (r"\b([Tt])heir(?:'s|s)? (?=(?:located|at|in)\b)", r"\1hey are "),
    (r"\b([Tt])here? (?=(?:address|phone number|number)\b)", r"\1heir "),
    (r"\b([Tt])heres\b", r"\1here's"),
    (r"\b([Ww])hats\b", r"\1hat's"),
    (r"\b([Yy])oure\b", r"\1ou're"),
    (r"\b([Tt])heyre\b", r"\1hey're"),
    (r"\b([Ii])m\b", r"I'm"),
    (r"\btheatre\b", "theater"),
    (r"\b([Aa]) (?=(?:[ai]|e(?!u))\w)", r"\1n "),
)
# Of system turns only: sentences that lack their subject or article.
_FRAGMENTS = (
    (r"\b([Ii]t|[Tt]he (?:restaurant|hotel|place|event)) located\b", r"\1 is located"),
    (r"\b([Tt]hey) located\b", r"\1 are located"),
    (r"(?:^|(?<=[.?!] ))Is (?=located|situated|at |in |on )", "It is "),
    (r"(?:^|(?<=[.?!] ))Has ", "It has "),
    (
        r"(?:^|(?<=[.?!] ))(?=(?:(?:[Pp]hone|[Cc]ontact|[Aa]verage|[Tt]otal|[Tt]icket|[Rr]ide) )?"
        r"(?:[Nn]umber|[Aa]ddress|[Pp]hone|[Rr]ating|[Pp]rice|[Cc]ost|[Ff]are|[Vv]enue)"
        r" (?:is|will)\b)",
        "The ",
    ),
    (r"\bThe ([A-Z])(?=[a-z]+ (?:number|is|will|address|price|rating)\b)", _lower),
)
_QUESTION = re.compile(
    r"(?:what|when|where|which|who|how|can|could|do|does|is|are|would|will|shall|should|may)\b",
    re.IGNORECASE,
)
# Words of templates that fit any noun.
_NEUTRAL_TEXT = """
the a an it it's its is are at in on of for to you can reach them they they're their there there's
be reached by calling call located find have has will would cost costs rated with get i i'd i've
see that that's this here here's and my records show contact address phone number price rating city
total date time please found situated star stars average out given currently listed as was
"""
_NEUTRAL = frozenset(_NEUTRAL_TEXT.split())


def repair(text: str) -> str:
    """Mend spacing, apostrophes, capitals and the final punctuation."""
    for pattern, replacement in _REPAIRS:
        text = re.sub(pattern, replacement, text)
    text = re.sub(r"\b[A-Z]{2}[a-z]+\b", lambda m: m.group().capitalize(), text.strip(" ,;:-"))
    text = re.sub(r"(?:^|(?<=[.?!] ))[a-z]", lambda m: m.group().upper(), text)
    text = text if not text or text[-1] in ".?!" else text + "."
    sentences = re.split(r"(?<=[.?!]) ", text)
    return " ".join(s[:-1] + "?" if _QUESTION.match(s) and s[-1] == "." else s for s in sentences)


def _forms(kind: str, value: str) -> list[str]:
    """Return every form of a value that people write, the longest first."""
    forms = surface_forms(kind, value)
    if kind in ("money", "rate") and re.fullmatch(r"\d+\.\d?0", value):
        forms = forms + surface_forms(kind, value.rstrip("0").rstrip("."))
    if kind == "rate" and value.rstrip("0").rstrip(".").isdigit():
        forms = forms + surface_forms("number", value.rstrip("0").rstrip("."))
    return sorted(set(forms), key=lambda form: (-len(form), form))


def cut_template(text: str, stated: list[tuple[str, str, str]], others: set[str]) -> str | None:
    """Cut the stated (words, kind, value) out; None where anything else the facts lack is said."""
    text = re.sub(r"\s+", " ", text).strip()
    if not text.isascii() or "{" in text or len({words for words, _, _ in stated}) < len(stated):
        return None
    for words, kind, value in sorted(stated, key=lambda s: -len(s[2])):
        forms = "|".join(re.escape(form) for form in _forms(kind, value))
        found = re.search(rf"(?<![\w$.{{])(?:{forms})(?![\w}}]|[:.]\d)", text, re.IGNORECASE)
        if found is None:
            return None
        text = f"{text[: found.start()]}{{{words}}}{text[found.end() :]}"
    bare = HOLE.sub(" _ ", text)
    padded = " " + re.sub(r"[^\w' ]", " ", bare.lower()) + " "
    if _UNKNOWN.search(bare) or any(f" {other} " in padded for other in others):
        return None
    if re.search(r"[a-z][A-Z]", bare):
        return None
    names = re.findall(r"(?<=[a-z,;:}] )[A-Z][\w']*", text) + re.findall(r"\b[A-Z]{2,}\b", text)
    if any(name.split("'")[0] != "I" for name in names):
        return None
    return text


def trim(template: str, role: str, noun: str = "") -> str | None:
    """Repair a template; of system turns keep the sentences that state a value."""
    text = repair(template)
    if role == "more":
        asked = [s for s in re.split(r"(?<=[.?!]) ", repair(_FILLERS.sub("", text))) if "?" in s]
        text = asked[-1] if asked else ""
    elif role in ("offer", "inform", "confirm"):
        text = _trim_answer(text, role, noun)
    elif role == "open" and _OUT_OF_PLACE.search(text):
        return None
    words = HOLE.sub("_", text).split()
    if _CLUMSY.search(text) or "{" in HOLE.sub("", text) or "}{" in text:
        return None
    return text if 3 <= len(words) <= MAX_WORDS else None


def _trim_answer(text: str, role: str, noun: str) -> str:
    """Keep the sentences that state a value, repaired; return "" where they would not do."""
    text = repair(_FILLERS.sub("", text))
    for pattern, replacement in _FRAGMENTS:
        text = re.sub(pattern, replacement, text)
    text = repair(text)
    if noun not in ("car", "flight"):
        text = repair(re.sub(r"\b(?:an?|the|this) (?=\{name\})", "", text, flags=re.IGNORECASE))
    sentences = [s for s in re.split(r"(?<=[.?!]) ", text) if HOLE.search(s)]
    sentences = [s[:-1] + "." if _STATEMENT.match(s) and s[-1] == "?" else s for s in sentences]
    if any(_BARE.fullmatch(s) or not _VERB.search(HOLE.sub("_", s)) for s in sentences):
        return ""
    text = " ".join(sentences)
    if (role != "confirm" and _PROMISES.search(text)) or (noun == "event" and _SHOWS.search(text)):
        return ""
    # A value may be in lower case, so only a name starts a sentence.
    return "" if re.search(r"(?:^|[.?!] )\{(?!name\})", text) else text


def is_neutral(template: str, noun: str, words: str) -> bool:
    """Say whether a template could be said of a record of any noun."""
    bare = re.sub(r"[^a-z' ]", " ", HOLE.sub(" ", template).lower())
    return noun not in template and set(bare.split()) <= _NEUTRAL | set(words.split())
