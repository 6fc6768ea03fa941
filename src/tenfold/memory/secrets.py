"""Secrets in text: keys, tokens, passwords, card numbers. Findings say where, never what.

A look-alike is left alone when in doubt: a hash in prose, an order number, a phone number. Hence a
password told in plain words ("the password is swordfish") is only found after a colon, an equals
sign or in quotes, or when it looks like one.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret of a kind at `start` to `end` of a text."""

    kind: str
    start: int
    end: int


def find_secrets(text: str) -> list[Secret]:
    """The secrets in a text in order, none within another."""
    found: list[Secret] = []
    for kind, pattern, accept in _PATTERNS:
        for match in pattern.finditer(text):
            start, end = match.span("secret") if "secret" in pattern.groupindex else match.span()
            inside = any(start < s.end and s.start < end for s in found)
            if not inside and (accept is None or accept(text, start, end)):
                found.append(Secret(kind, start, end))
    return sorted(found, key=lambda s: s.start)


def luhn(digits: str) -> bool:
    """Whether the last digit is the check digit of the others (ISO/IEC 7812-1, annex B)."""
    total = 0
    for i, digit in enumerate(reversed(digits)):
        number = int(digit) * (1 + i % 2)
        total += number - 9 if number > 9 else number
    return total % 10 == 0


_Accept = Callable[[str, int, int], bool]

# Issuer's first digits, and how many digits their cards have.
_ISSUERS = (
    (re.compile(r"4"), (16, 19)),
    (re.compile(r"5[1-5]|222[1-9]|22[3-9]|2[3-6]|27[01]|2720"), (16,)),
    (re.compile(r"3[47]"), (15,)),
    (re.compile(r"6011|64[4-9]|65"), (16, 19)),
    (re.compile(r"35(?:2[89]|[3-8])"), (16,)),
    (re.compile(r"3(?:0[0-5]|[68])"), (14,)),
    (re.compile(r"62"), (16, 17, 18, 19)),
)
_NO_CARD = re.compile(
    r"\b(?:order|invoice|tracking|shipment|parcel|ticket|case|serial|reference|ref|isbn|imei|account"
    r"|customer|booking|id|sku|part|issue|number of)\b[^\n]{0,24}$",
    re.IGNORECASE,
)
_PLACEHOLDER = re.compile(
    r"(.)\1*|(?:x|\*|•|\.|_|-|#)+|<.*|\{.*|\$\{?\w+\}?|\[.*|%.*|your[\w-]*|my[\w-]*|example[\w-]*"
    r"|changeme|change_me|placeholder|redacted|hidden|none|null|nil|true|false|todo|tbd|undefined"
    r"|required|optional|string|incorrect|invalid|wrong|expired|missing|reset|changed|forgotten"
    r"|password|secret|token|123456789\d*|x{3,}.*|.*x{4,}.*|.*\*{3,}.*",
    re.IGNORECASE,
)


def _card(text: str, start: int, end: int) -> bool:
    digits = re.sub(r"\D", "", text[start:end])
    issued = any(p.match(digits) and len(digits) in lengths for p, lengths in _ISSUERS)
    if not issued or not luhn(digits) or len(set(digits)) < 2:
        return False
    before = text[max(0, start - 40) : start]
    return "card" in before.lower() or not _NO_CARD.search(before)


def _random(text: str, start: int, end: int) -> bool:
    """Whether it looks drawn by lot: mixed characters, none of them much more frequent."""
    secret = text[start:end]
    if _PLACEHOLDER.fullmatch(secret):
        return False
    kinds = sum(bool(re.search(p, secret)) for p in (r"[a-z]", r"[A-Z]", r"\d"))
    counts = Counter(secret).values()
    bits = -sum(n / len(secret) * math.log2(n / len(secret)) for n in counts)
    return kinds > 1 and bits >= 3.0


def _real(text: str, start: int, end: int) -> bool:
    return not _PLACEHOLDER.fullmatch(text[start:end])


def _assigned(text: str, start: int, end: int) -> bool:
    """Of what follows a colon: not the first word of a sentence, "Password: must be changed"."""
    rest = text[end:].split("\n", 1)[0].strip(" \"'`”.,;")
    return _real(text, start, end) and (not rest or _like_a_password(text, start, end))


def _like_a_password(text: str, start: int, end: int) -> bool:
    """Of a word after "is": letters with digits or signs, in quotes, or in upper and lower case."""
    secret = text[start:end]
    if not _real(text, start, end):
        return False
    if text[start - 1 : start] in ("'", '"', "`", "“"):
        return True
    mixed = re.search(r"[A-Za-z]", secret) and re.search(r"[\d!@#$%^&*?+=~]", secret)
    return bool(mixed or re.search(r"[a-z][A-Z]", secret))


_PATTERNS: tuple[tuple[str, re.Pattern[str], _Accept | None], ...] = (
    ("private key", re.compile(
        r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----"
        r"(?:[\s\S]*?-----END (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----|[\s\S]*)"), None),
    ("AWS access key", re.compile(
        r"(?<![A-Za-z0-9])(?:AKIA|ASIA)[A-Z2-7]{16}(?![A-Za-z0-9])"), _real),
    ("GitHub token", re.compile(
        r"(?<!\w)(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_\w{22,})(?!\w)"), _real),
    ("GitLab token", re.compile(r"(?<!\w)glpat-[\w-]{20,}(?![\w-])"), _real),
    ("Slack token", re.compile(r"(?<!\w)xox[abeoprs]-[\w-]{10,}"), _real),
    ("Stripe key", re.compile(r"(?<!\w)[rs]k_(?:live|test)_[A-Za-z0-9]{16,}(?!\w)"), _real),
    ("API key", re.compile(r"(?<![\w-])sk-(?:[a-z]+\d*-)*[\w-]{20,}(?![\w-])"), _random),
    ("Google key", re.compile(r"(?<!\w)AIza[\w-]{35}(?![\w-])"), _real),
    ("Hugging Face token", re.compile(r"(?<!\w)hf_[A-Za-z0-9]{30,}(?!\w)"), _real),
    ("npm token", re.compile(r"(?<!\w)npm_[A-Za-z0-9]{36}(?!\w)"), _real),
    ("PyPI token", re.compile(r"(?<!\w)pypi-[\w-]{50,}"), _real),
    ("JSON web token", re.compile(
        r"(?<![\w.-])eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,}(?![\w-])"), None),
    ("password in a URL", re.compile(
        r"\b[a-z][a-z0-9+.-]*://[^\s:/@]{1,64}:(?P<secret>[^\s/@]{3,128})@[\w.-]+"), _real),
    ("bearer token", re.compile(
        r"\b[Bb]earer\s+(?P<secret>[A-Za-z0-9._~+/-]{20,}=*)"), _random),
    ("API key", re.compile(
        r"\b(?:api|access|secret|auth|client|private|encryption)[ _-]?(?:key|token|secret)"
        r"\s*(?:is\b|[:=])\s*[\"'`“]?(?P<secret>[A-Za-z0-9_\-+/.]{16,}=*)",
        re.IGNORECASE), _random),
    ("API key", re.compile(
        r"\b(?:token|secret)\s*[:=]\s*[\"'`“]?(?P<secret>[A-Za-z0-9_\-+/.]{16,}=*)",
        re.IGNORECASE), _random),
    ("password", re.compile(
        r"\b(?:password|passwd|passphrase|pwd)\s*[:=]\s*[\"'`“]?(?P<secret>[^\s\"'`”,;]{4,64})",
        re.IGNORECASE), _assigned),
    ("password", re.compile(
        r"\b(?:(?:password|passphrase|passcode)(?:\s+(?:for|to|of|on)\s+[\w. -]{1,40}?)?"
        r"\s+(?:is|was)"
        r"|(?:change|set|reset|update)[ds]?\s+(?:\w+\s+){0,3}password\s+to)"
        r"\s+(?:now\s+)?"
        r"[\"'`“]?(?P<secret>[^\s\"'`”,;]{4,64}?)(?=[.!?]*(?:[\s\"'`”,;]|$))",
        re.IGNORECASE), _like_a_password),
    ("PIN", re.compile(
        r"\bPIN(?:\s+(?:code|number))?(?:\s+(?:for|to|of)\s+[\w ]{1,30}?)?\s*(?:is|:|=)\s*"
        r"(?P<secret>\d{4,8})(?![\d.,:-]*\d)", re.IGNORECASE), None),
    ("card number", re.compile(
        r"(?<![\w.+/#-])(?:\d{4}([ -]?)\d{4}\1\d{4}\1\d{1,7}"
        r"|\d{4}([ -]?)\d{6}\2\d{4,5})(?![\w-]|[.,/]\d)"), _card),
)  # fmt: skip
