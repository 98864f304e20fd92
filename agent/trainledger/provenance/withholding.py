"""Which files are withheld from a snapshot because they are, or hold, secrets. Pure.

By name: keys, password stores, `.env` and the like. By content: the forms of tokens that redaction knows, addresses
with a password, and a literal value under a secret name. Source code that merely handles a secret
(`password = os.environ["DB_PASSWORD"]`) is kept: without it the run could not be repeated. A file that is withheld
is named in the snapshot, without its digest: a short secret could be guessed from it.
"""

import re
from collections.abc import Iterator
from pathlib import PurePath

from ..redaction import has_secret_form, is_secret_name

__all__ = ["holds_secret", "is_secret_file"]

_SECRET_FILE = re.compile(
    r"\.env(\..*)?|.*\.(pem|key|p12|pfx|jks|keystore|kdbx|ppk)|id_(rsa|dsa|ecdsa|ed25519)(_sk)?"
    r"|\.(netrc|pgpass|npmrc|pypirc|htpasswd|git-credentials|dockercfg|vault-token)|_netrc|kubeconfig(\..*)?"
    r"|[^/]*credentials(\.(json|ya?ml|toml|ini|cfg|csv|txt|xml))?|secrets?\.(json|ya?ml|toml|ini)",
    re.IGNORECASE,
)
# Templates of such files are there to be shared.
_TEMPLATE = re.compile(r".*\.(example|sample|template|dist|pub)", re.IGNORECASE)
_PLAIN_VALUES = frozenset(
    ".yaml .yml .toml .ini .cfg .conf .json .properties .txt .sh .bash .env .xml .csv .tf .tfvars".split()
)
_LITERAL = re.compile(
    r"""(?P<name>[A-Za-z_][A-Za-z0-9_.-]{0,80})["']?\s{0,4}[=:]\s{0,4}["'](?P<value>[^"'\s{}$<>%]{8,512})["']"""
)
_UNQUOTED = re.compile(
    r"(?m)^[ \t]{0,40}(?:export )?(?P<name>[A-Za-z_][A-Za-z0-9_.-]{0,80})[ \t]{0,4}[=:][ \t]{0,4}"
    r"(?P<value>[^\s\"'{}$<>%()]{8,512})[ \t\r]*$"
)
# Every secret name has one of these in it; looking for them first saves nine tenths of the time.
_STEMS = ("secret", "passw", "passphrase", "pwd", "credential", "key", "token", "auth", "bearer", "cookie")
# What a name and its value may take before and behind a stem.
_BEFORE_CHARS = 130
_BEHIND_CHARS = 620


def is_secret_file(path: str) -> bool:
    """Whether a file of this name is withheld unread."""
    name = PurePath(path).name
    return _SECRET_FILE.fullmatch(name) is not None and _TEMPLATE.fullmatch(name) is None


def holds_secret(path: str, text: str) -> bool:
    """Whether this content of a file looks as if it held a secret."""
    if has_secret_form(text):
        return True
    forms = [_LITERAL]
    if PurePath(path).suffix.lower() in _PLAIN_VALUES or "." not in PurePath(path).name:
        forms.append(_UNQUOTED)
    return any(
        is_secret_name(match["name"]) and _looks_chosen(match["value"])
        for part in _parts_with_names(text)
        for form in forms
        for match in form.finditer(part)
    )


def _parts_with_names(text: str) -> Iterator[str]:
    """The parts of a text that may hold a secret name and its value, from the beginning of a line if it is near."""
    lowered = text.lower()
    if len(lowered) != len(text):  # a few letters of other alphabets become two
        yield text
        return
    places = []
    for stem in _STEMS:
        place = lowered.find(stem)
        while place >= 0:
            places.append(place)
            # Of what stands close together the first is enough, since a part goes on behind its last.
            place = lowered.find(stem, place + len(stem))
    begin = end = 0
    for place in sorted(places):
        if place - _BEFORE_CHARS > end:
            if end:
                yield text[begin:end]
            line = text.rfind("\n", max(end, place - _BEFORE_CHARS), place)
            begin = line + 1 if line >= 0 else place - _BEFORE_CHARS
        end = place + _BEHIND_CHARS
    if end:
        yield text[begin:end]


def _looks_chosen(value: str) -> bool:
    # A word ("tokenizer", "changeme") is a default or a name; a password has digits among its letters.
    return any(c.isdigit() for c in value) and any(c.isalpha() for c in value)
