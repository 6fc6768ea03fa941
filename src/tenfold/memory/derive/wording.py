"""A text brought to the form in which restatements of it are equal: its words in order.

Case, punctuation, white space, contractions and filler words do not count. Numbers are brought to
one spelling and kept, since other numbers make another statement.
"""

from __future__ import annotations

import re
import unicodedata

# Letters; numbers with their separators and sign; and symbols that say something: $, %, 👍.
_TOKEN = re.compile(
    r"(?<!\w)[-−]?\d+(?:[.,:/]\d+)*|\d+(?:[.,:/]\d+)*|[^\W\d_]+(?:'[^\W\d_]+)*"
    r"|[^\s\w.,;:!?'\"()\[\]…—–\-−*~`‘’“”¿¡]"
)
_THOUSANDS = re.compile(r"-?\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_DECIMAL = re.compile(r"-?\d+\.\d+")
_SPELLED = {
    "cant": "can not", "can't": "can not", "cannot": "can not", "won't": "will not",
    "wont": "will not", "shan't": "shall not", "dont": "do not", "doesnt": "does not",
    "didnt": "did not", "isnt": "is not", "arent": "are not", "wasnt": "was not",
    "havent": "have not", "hasnt": "has not", "im": "i am", "ive": "i have", "gonna": "going to",
    "wanna": "want to", "let's": "let us", "gotta": "got to",
}  # fmt: skip
_ENDINGS = (
    ("n't", "not"), ("'m", "am"), ("'re", "are"), ("'ve", "have"), ("'ll", "will"), ("'d", "'d")
)  # fmt: skip
_IS = frozenset({
    "it's", "that's", "he's", "she's", "what's", "there's", "here's", "who's", "where's", "how's"
})  # fmt: skip
_FILLERS = re.compile(
    r"(?<!\S)(?:you know|i mean|i guess|by the way|as (?:i|we) (?:said|mentioned|told you)"
    r"(?: (?:before|already|earlier))?|like i said|just so you know|so you know|for the record"
    r"|to be (?:honest|clear|fair)|in fact|of course|once again|as a reminder|to repeat"
    r"|(?:please )?(?:note|remember|keep in mind) that|well|ok|okay|so|um+|uh+|erm?|hm+|ah|oh|hey"
    r"|hi|hello|please|just|really|basically|actually|literally|honestly|anyway|again|fyi|btw|yeah"
    r"|yep|alright|right|also|indeed|note|remember|reminder|look|listen|kindly|simply)(?!\S)"
)


def words(text: str) -> tuple[str, ...]:
    """The words of a text in lower case without fillers; of nothing but fillers, those."""
    text = unicodedata.normalize("NFKC", text).replace("’", "'").casefold()
    every = " ".join(_spelled(token) for token in _TOKEN.findall(text))
    kept = " ".join(_FILLERS.sub(" ", every).split())
    return tuple((kept or every or " ".join(text.split())).split(" "))


def is_number(word: str) -> bool:
    """Whether a word of `words` is a number."""
    return word[-1].isdigit()


def _spelled(token: str) -> str:
    if is_number(token):
        return _number(token.replace("−", "-"))
    if token in _SPELLED:
        return _SPELLED[token]
    if token in _IS:
        return f"{token[:-2]} is"
    for ending, word in _ENDINGS:
        if token.endswith(ending) and token != ending:
            return f"{token.removesuffix(ending)} {word}"
    return token


def _number(token: str) -> str:
    """1,000.50 and 1000.5 are one number; 007 and 10:30 stay what they are."""
    if _THOUSANDS.fullmatch(token):
        token = token.replace(",", "")
    return token.rstrip("0").rstrip(".") if _DECIMAL.fullmatch(token) else token
