"""The statements that are understood: for each predicate, how one says it of oneself and others."""

from __future__ import annotations

import re
from dataclasses import dataclass

_I = r"(?P<who>[Ii])"
_MY = r"(?P<who>[Mm]y)"
_WHO = (
    r"(?P<who>(?:[Tt]he )?(?:[Uu]ser|[Gg]uest|[Cc]ustomer|[Cc]lient|[Pp]atient)"
    r"|[^\W\d_a-z][\w-]+(?: [^\W\d_a-z][\w-]+)?)"
)
_SOFT = (
    r"(?:(?:really|also|still|always|just|now|currently|actually|only|absolutely|especially|usually"
    r"|mostly|simply|totally|truly|definitely|do|recently|finally|both|strictly|strongly|very much"
    r"|already|mainly|so)\s+)*"
)
_GONE = r"(?P<gone>no longer)\s+"
_USED = r"(?P<used>used to)\s+"
_REST = r"\s+(?P<object>.+)"


@dataclass(frozen=True, slots=True)
class Rule:
    """How a predicate is said. The pattern has `who` and `object`; `no`, `never`, `gone` and `used`
    deny.

    `form` is what an object must look like (see `objects`); `many` may be listed. Of a `single`
    predicate one value holds at a time. `ends` says that it is over ("I quit my job at"),
    `opposite` that it is denied ("I hate"), `begins` that it began when the sentence says.
    """

    predicate: str  # "" is the pattern's group `what`
    pattern: re.Pattern[str]
    form: str
    single: bool = False
    many: bool = False
    ends: bool = False
    opposite: bool = False
    begins: bool = False


@dataclass(frozen=True, slots=True)
class _Verb:
    predicate: str
    base: str
    third: str
    form: str
    single: bool = False
    many: bool = False
    opposite: bool = False


_VERBS = (
    _Verb("likes", "like|love|enjoy|adore", "likes|loves|enjoys|adores", "liking", many=True),
    _Verb("likes", "hate|dislike|detest|(?:can't|cannot|can not) stand",
          "hates|dislikes|detests|(?:can't|cannot|can not) stand", "liking", many=True,
          opposite=True),
    _Verb("prefers", "prefer", "prefers", "preferred", many=True),
    _Verb("eats", "eat", "eats", "thing", many=True),
    _Verb("drinks", "drink", "drinks", "thing", many=True),
    _Verb("plays", "play", "plays", "thing", many=True),
    _Verb("studies", "study", "studies", "thing", many=True),
    _Verb("speaks", "speak", "speaks", "language", many=True),
    _Verb("has", "have got|have", "has got|has", "owned", many=True),
    _Verb("owns", "own", "owns", "owned", many=True),
    _Verb("drives", "drive", "drives", "owned"),
    _Verb("lives in", "live in|reside in", "lives in|resides in", "place", single=True),
    _Verb("works at", "work at|work for", "works at|works for", "company", single=True),
    _Verb("works as", "work as", "works as", "owned", single=True),
    _Verb("is from", "come from", "comes from", "place", single=True),
)  # fmt: skip
# What follows "am" and "is": predicate, words, form, whether it is single, whether many are told.
_STATES = (
    ("allergic to", "allergic to", "thing", False, True),
    ("likes", "(?:a )?(?:big |huge )?fan of|fond of", "liking", False, True),
    ("lives in", "living in|based in", "place", True, False),
    ("works at", "working at|working for|employed by", "company", True, False),
    ("works as", "working as", "owned", True, False),
    ("is from", "originally from|from", "place", True, False),
    ("married to", "married to", "name", True, False),
    ("age", "(?=\\d)", "age", True, False),
    ("is", "(?=an? )", "owned", False, False),
    ("is", "(?=\\w)", "trait", False, True),
)
_MORE = (  # after "I" or a name, in words that tell of a change or of the past
    Rule("lives in", re.compile(r"(?:(?:have |has |'ve )?(?:just |recently |finally )?)?"
         r"(?:moved|relocated)(?: from [\w ]+?)?(?: back)? to"), "place", single=True, begins=True),
    Rule("lives in", re.compile(r"(?:have|has|'ve) (?:lived|been living) in"
         r"(?=.*\b(?:since|for)\b)"), "place", single=True),
    Rule("works at", re.compile(r"(?:have|has|'ve) (?:worked|been working) (?:at|for)"
         r"(?=.*\b(?:since|for)\b)"), "company", single=True),
    Rule("works at", re.compile(r"(?:just |recently )?(?:started (?:working|a job|a new job)"
         r"|got a (?:new )?job) (?:at|for|with)"), "company", single=True, begins=True),
    Rule("works at", re.compile(r"(?:just |recently )?(?:(?:quit|left) (?:my|his|her|their) job at"
         r"|(?:quit|stopped) working (?:at|for))"), "company", single=True, ends=True, begins=True),
    Rule("eats", re.compile(r"(?:stopped|quit|gave up) eating"), "thing", many=True, ends=True),
    Rule("drinks", re.compile(r"(?:stopped|quit|gave up) drinking"), "thing", many=True, ends=True),
    Rule("plays", re.compile(r"(?:stopped|quit|gave up) playing"), "thing", many=True, ends=True),
    Rule("born in", re.compile(r"was born in"), "place", single=True),
    Rule("born on", re.compile(r"was born on"), "date", single=True),
    Rule("is", re.compile(r"(?:just |recently )?became(?= an? )"), "owned", begins=True),
)  # fmt: skip
_CLOSE = "wife|husband|partner|fiancé|fiancée|girlfriend|boyfriend|boss|manager|best friend"
_OTHERS = (
    "sister|brother|mother|father|mom|mum|dad|son|daughter|dog|cat|friend|roommate|flatmate|uncle"
    "|neighbou?r|aunt|cousin|grandmother|grandfather|grandma|grandpa|niece|nephew|colleague|puppy"
    "|kitten|horse|parrot|doctor|dentist|teacher|landlord"
)
_ATTRIBUTES = (
    ("(?:first |last |full |middle )?name", "name"),
    ("e-?mail(?: address)?", "email"),
    ("(?:phone|mobile|telephone|cell)(?: number)?", "phone"),
    ("birthday", "date"),
    ("(?:home |postal |new )?address", "address"),
    ("(?:room|seat|table|customer|member(?:ship)?|booking) number|post ?code|zip code", "code"),
    ("blood type|shoe size", "code"),
    ("home ?town|native language|mother tongue|nationality", "language"),
    (r"fav(?:ou?rite) [\w-]+(?: [\w-]+)?", "liking"),
)

# What is settled of a booking or an order: words, how the value begins, its form.
_SETTINGS = (
    (r"number of \w+|(?:[\w-]+ ){0,2}(?:date|time|length|budget|rating)|party size|group size",
     "", "amount"),
    (r"(?:[\w-]+ ){0,2}(?:city|destination|origin|location|station|airport|airline)",
     r"(?=(?:not )?[^\W_a-z])", "setting"),
    (r"(?:[\w-]+ )?(?:cuisine|genre|category|type|class|range)", "", "setting"),
)  # fmt: skip


def _of_settings() -> list[Rule]:
    """What somebody wants of something: "my check in date is May 3rd", "make my city Porto"."""
    rules = []
    for words, begins, form in _SETTINGS:
        what, value = rf"(?P<what>{words})", rf"\s+{begins}(?P<object>.+)"
        wanting = r"(?:'d like|\s+(?:would like|want|need|prefer))"
        for pattern in (
            rf"{_MY}\s+{what}\s+(?:is|will be|should be|has to be)(?:\s+now)?{value}",
            rf"{_I}{wanting}\s+(?:the|my)\s+{what}\s+to be{value}",
            rf"(?:[Mm]ake|[Ss]et|[Cc]hange|[Kk]eep) (?P<who>my)\s+{what}(?:\s+(?:to|at))?{value}",
            rf"[Ff]or (?P<who>me),?\s+the\s+{what}\s+(?:is|will be|should be|has to be){value}",
        ):
            rules.append(Rule("", re.compile(pattern), form, True))
    return rules


def _of_verb(verb: _Verb) -> list[Rule]:
    first = (
        rf"{_I}\s+{_SOFT}(?:{_USED}|{_GONE}|(?P<no>do not|don't|dont|never)\s+)?{_SOFT}"
        rf"(?:{verb.base}){_REST}"
    )
    third = (
        rf"{_WHO}\s+{_SOFT}(?:(?:{_USED}|(?P<no>does not|doesn't|doesnt)\s+){_SOFT}(?:{verb.base})"
        rf"|(?:{_GONE}|(?P<never>never)\s+)?{_SOFT}(?:{verb.third})){_REST}"
    )
    return [
        Rule(verb.predicate, re.compile(p), verb.form, verb.single, verb.many, False, verb.opposite)
        for p in (first, third)
    ]


def _of_state(predicate: str, state: str, form: str, single: bool, many: bool) -> list[Rule]:
    denial = rf"\s+{_SOFT}(?:{_GONE}|(?P<no>not|never)\s+)?{_SOFT}"
    patterns = [
        rf"(?:{_I}(?:\s+am|'m)|(?P<im>[Ii])m){denial}",
        rf"{_WHO}(?:\s+is|'s){denial}",
        rf"(?:{_I}|{_WHO.replace('P<who>', 'P<other>')})\s+{_USED}be\s+",
    ]
    rest = _REST if not state.startswith("(?=") else r"(?P<object>.+)"
    return [
        Rule(predicate, re.compile(f"{p}(?:{state}){rest}"), form, single, many) for p in patterns
    ]


def _more(rule: Rule) -> list[Rule]:
    patterns = (rf"(?:{_I}\s+|[Ii](?='ve ))", rf"{_WHO}\s+")
    return [
        Rule(
            rule.predicate,
            re.compile(f"{who}(?:{rule.pattern.pattern}){_REST}"),
            rule.form,
            rule.single,
            rule.many,
            rule.ends,
            begins=rule.begins,
        )
        for who in patterns
    ]


def _of_mine() -> list[Rule]:
    link = r"\s+is\s+(?:now\s+|actually\s+)?(?:(?P<gone>no longer)\s+)?(?:called\s+|named\s+)?"
    rules = [
        Rule(
            "", re.compile(rf"{_MY}\s+(?:new\s+)?(?P<what>{words}){link}(?P<object>.+)"), form, True
        )
        for words, form in _ATTRIBUTES
    ]
    for roles, single in ((_CLOSE, True), (_OTHERS, False)):
        pattern = rf"{_MY}\s+(?P<what>{roles})(?:'s name)?{link}(?P<object>.+)"
        rules.append(Rule("", re.compile(pattern), "name", single))
    called = r"(?:[Ii] am called|[Ii]'m called|[Ii] go by|[Cc]all (?P<who>me)|[Ii]'m|[Ii] am|[Ii]m)"
    rules.append(Rule("name", re.compile(rf"{called}\s+(?P<object>.+)"), "introduction", True))
    return rules


RULES: tuple[Rule, ...] = (
    *_of_settings(),
    *(rule for verb in _VERBS for rule in _of_verb(verb)),
    *(rule for more in _MORE for rule in _more(more)),
    *(rule for state in _STATES for rule in _of_state(*state)),
    *_of_mine(),
)
