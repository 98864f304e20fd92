"""Secrets are taken out before anything is written: by the name of a value, by its form, and by what it is.

Guarantees: the forms listed below, values under secret names, and the values that the environment of the process has
under secret names do not reach a journal. It cannot know a secret that looks like a plain word under a plain name.
Texts of any length in linear time. The functions are pure but for `hide_values_of`, which each program calls as it
begins.
"""

import re
from collections.abc import Iterator, Mapping, Sequence

__all__ = [
    "REDACTED",
    "clean_url",
    "has_secret_form",
    "hide_values_of",
    "is_secret_name",
    "redact",
    "redact_argv",
]

REDACTED = "[redacted]"

# Patterns are compiled by `re` when they are first needed, and kept: an import of the SDK needs none of them.
_WORD = r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+"
_SECRET_WORDS = frozenset(
    "secret secrets password passwd passphrase pwd credential credentials apikey authorization bearer cookie".split()
)
_SECRET_PAIRS = frozenset(
    [
        ("api", "key"),
        ("access", "key"),
        ("private", "key"),
        ("secret", "key"),
        ("account", "key"),
        ("auth", "key"),
    ]
)
# "token" is a secret in `hf_token` and a plain word of the field in `max_tokens` or `pad_token_id`.
_TOKEN_OWNERS = frozenset(
    "auth access api bearer bot csrf deploy gh git github gitlab hf hub huggingface id jwt login oauth personal "
    "push refresh secret security session slack user wandb write read registry pypi npm".split()
)
_TOKEN_FIELD_WORDS = frozenset("ids num count length max min pad eos bos unk sep cls mask per type".split())

_VALUE_FORMS = (
    r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----[^\0]*?(?:-----END [A-Z ]{0,40}PRIVATE KEY-----|\Z)"
    # The letters they begin with first: it saves two thirds of the time on text without any.
    r"|\b(?=[ASdeghnprswxy])(?:(?:AKIA|ASIA)[0-9A-Z]{16}\b|AccountKey=[A-Za-z0-9+/]{32,128}={0,2}"
    r"|gh[pousr]_[A-Za-z0-9]{20,255}|github_pat_[A-Za-z0-9_]{20,255}"
    r"|gl(?:pat|rt|dt)-[A-Za-z0-9_-]{16,255}"
    r"|hf_[A-Za-z0-9]{20,255}|sk-[A-Za-z0-9_-]{20,255}|xox[abeprs]-[A-Za-z0-9-]{10,255}|xapp-[A-Za-z0-9-]{20,255}"
    r"|pypi-[A-Za-z0-9_-]{32,255}|npm_[A-Za-z0-9]{30,255}|AIza[0-9A-Za-z_-]{30,64}"
    r"|[sr]k_live_[A-Za-z0-9]{16,255}|whsec_[A-Za-z0-9+/=]{24,255}"
    r"|SG\.[A-Za-z0-9_-]{16,64}\.[A-Za-z0-9_-]{16,128}|dapi[0-9a-f]{32}|do[opr]_v1_[0-9a-f]{64}"
    r"|hvs\.[A-Za-z0-9_-]{24,512}|ya29\.[A-Za-z0-9_-]{20,1024}|AGE-SECRET-KEY-1[0-9A-Z]{58}"
    r"|dckr_[po]at_[A-Za-z0-9_-]{20,64}|gsk_[A-Za-z0-9]{40,64}|r8_[A-Za-z0-9]{37}|nvapi-[A-Za-z0-9_-]{40,128}"
    r"|glsa_[A-Za-z0-9_]{32,64}|shpat_[0-9a-f]{32}|wandb_v1_[A-Za-z0-9_]{32,255}"
    r"|eyJ[A-Za-z0-9_-]{8,4096}\.[A-Za-z0-9_-]{8,4096}\.[A-Za-z0-9_-]{8,4096})"
    # Addresses that are a secret themselves, or carry one in their path.
    r"|(?<=hooks\.slack\.com/services/)[A-Z0-9/]{12,60}/[A-Za-z0-9]{16,64}"
    r"|(?<=/t/)[a-z]{2}-[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
    r"|(?<=[?&])(?:X-Amz-Signature|X-Amz-Security-Token|X-Goog-Signature|sig|Signature)=[A-Za-z0-9%+/=_-]{16,4096}"
)
_VALUE_MARKS = (
    "-----BEGIN AKIA ASIA AccountKey= ghp_ gho_ ghu_ ghs_ ghr_ github_pat_ glpat- glrt- gldt- hf_ sk- xox xapp- pypi- "
    "npm_ AIza k_live_ whsec_ SG. dapi _v1_ hvs. ya29. AGE-SECRET- dckr_ gsk_ r8_ nvapi- glsa_ shpat_ eyJ "
    "hooks.slack.com/ /t/ Signature= Security-Token= sig=".split()
)
# By a character that each of them has, which is found, or is not there, many times faster.
_MARKS_OF_SIGN = tuple(
    (sign, tuple(mark for mark in _VALUE_MARKS if next((c for c in "_-=./" if c in mark), "") == sign))
    for sign in ("", *"_-=./")
)
# No form is shorter than this.
_FORM_CHARACTERS_MIN = 16
_URL_USER = r"\b([A-Za-z][A-Za-z0-9+.-]{0,20}://)[^\s/@'\"]{1,1024}@"
# With a digit: `user:password@` in a comment is an example, `user:{password}@` a place for one.
_URL_PASSWORD = (
    r"\b[A-Za-z][A-Za-z0-9+.-]{0,20}://[^\s/@'\":]{1,256}:(?=[^\s/@]{0,256}[0-9])[^\s/@'\"{}$<>%()*]{6,256}@"
)
_BEARER = r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{12,4096}"
# As it stands in a header that somebody copied: with a digit, which "basic authentication" has not.
_BEARER_VALUE = r"(?i)\b(?:bearer|basic)\s+(?=[A-Za-z._~+/=-]{0,200}[0-9])[A-Za-z0-9._~+/=-]{20,4096}"
_BEARER_MARKS = ("bearer", "basic")
# Every name that `is_secret_name` takes for one has a whole word of these, or ends a pair with "key".
_NAME_STEMS = "secret passw passphrase pwd credential key token authorization bearer cookie".split()
_ASSIGNMENT = (
    # A name begins where none is before it and gives nothing back: each character is looked at once.
    r"""(?x)(?<![A-Za-z0-9_.-])(?P<name>[A-Za-z0-9_.-]++)(?P<sign>["']?\s{0,4}[=:]\s{0,4})
    (?P<value>"[^"\n]{1,4096}"|'[^'\n]{1,4096}'|[^\s"',;&)}\]]{1,4096})"""
)
# A shorter one, or one without a digit, may be a word of the text; a place of a secret is not one.
_HIDDEN_CHARACTERS_MIN = 10
_HIDDEN_CHARACTERS_MAX = 4096
_hidden: tuple[str, ...] = ()


def hide_values_of(environment: Mapping[str, str], argv: Sequence[str] = ()) -> None:
    """From now on take the values under secret names of `environment` and `argv` for secrets, wherever they stand.

    Replaces what was hidden before. A value, or a line of it, counts if it has at least ten characters, a digit and a
    letter among them, no white space, and is not a path.
    """
    global _hidden
    values = [
        value
        for name, value in environment.items()
        if any(stem in name.lower() for stem in _NAME_STEMS) and is_secret_name(name)
    ]
    values += [secret for _, secret in _arguments(argv) if secret is not None]
    lines = {line for value in values for line in value.split("\n")}
    # The longest first: one may be a part of another.
    _hidden = tuple(sorted(filter(_is_chosen, lines), key=lambda line: (-len(line), line)))


def _is_chosen(value: str) -> bool:
    if not _HIDDEN_CHARACTERS_MIN <= len(value) <= _HIDDEN_CHARACTERS_MAX or value.startswith(
        ("/", "./", "../", "~")
    ):
        return False
    has_digit = has_letter = False
    for character in value:
        if character.isspace():
            return False
        has_digit = has_digit or character.isdigit()
        has_letter = has_letter or character.isalpha()
    return has_digit and has_letter


def is_secret_name(name: str) -> bool:
    """Whether a value under this name is taken for a secret: `hf_token` and `DB_PASSWORD`, not `max_tokens`."""
    words = [word.lower() for word in re.findall(_WORD, name[-256:])]
    if any(word in _SECRET_WORDS for word in words):
        return True
    if any(pair in _SECRET_PAIRS for pair in zip(words, words[1:], strict=False)):
        return True
    if "token" not in words or _TOKEN_FIELD_WORDS.intersection(words) or words[-1] == "id":
        return False
    return words[-1] == "token" and (len(words) == 1 or bool(_TOKEN_OWNERS.intersection(words)))


def clean_url(url: str) -> str:
    """`url` without user name and password."""
    return re.sub(_URL_USER, r"\1", url)


def has_secret_form(text: str) -> bool:
    """Whether something in `text` is hidden, has the form of a token or key, or is an address or header with one."""
    if any(value in text for value in _hidden):
        return True
    # Plain searches first, as in `redact`.
    if _has_mark(text) and re.search(_VALUE_FORMS, text) is not None:
        return True
    if "://" in text and re.search(_URL_PASSWORD, text) is not None:
        return True
    lowered = text.lower()
    return any(scheme in lowered for scheme in _BEARER_MARKS) and re.search(_BEARER_VALUE, text) is not None


def redact(text: str) -> str:
    """`text` with secrets replaced by REDACTED; equal to `text` when there is none."""
    for value in _hidden:
        text = text.replace(value, REDACTED)
    # Plain searches first, for what no match can do without: on text without secrets they take a tenth of the time.
    if len(text) >= _FORM_CHARACTERS_MIN and _has_mark(text):
        text = re.sub(_VALUE_FORMS, REDACTED, text)
    if "://" in text:
        text = re.sub(_URL_USER, rf"\1{REDACTED}@", text)
    lowered = text.lower()
    if any(scheme in lowered for scheme in _BEARER_MARKS):
        text = re.sub(_BEARER, rf"\1 {REDACTED}", text)
    if any(stem in lowered for stem in _NAME_STEMS):
        text = re.sub(_ASSIGNMENT, _redact_assignment, text)
    return text


def redact_argv(argv: Sequence[str]) -> list[str]:
    """A command line without secrets: `--api-key X`, `--api-key=X`, `KEY=X`, and values by their form."""
    return [redact(shown) if secret is None else shown for shown, secret in _arguments(argv)]


def _arguments(argv: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    """Each argument as it may be shown, and the value that was taken out of it for its name; None: nothing was."""
    secret_follows = False
    for argument in argv:
        if secret_follows and not argument.startswith("--"):
            secret_follows = False
            yield REDACTED, argument
            continue
        name, equals, value = argument.partition("=")
        if equals and len(name) <= 128 and is_secret_name(name):
            yield f"{name}={REDACTED}", value
        else:
            yield argument, None
        secret_follows = not equals and argument.startswith("-") and is_secret_name(argument)


def _has_mark(text: str) -> bool:
    for sign, marks in _MARKS_OF_SIGN:
        if sign in text:
            for mark in marks:
                if mark in text:
                    return True
    return False


def _redact_assignment(match: "re.Match[str]") -> str:
    # The sign that ends REDACTED, and a quote around it, are not part of a bare value.
    value = match["value"]
    if value.strip("\"'").startswith(REDACTED[:-1]) or not is_secret_name(match["name"]):
        return match[0]
    quote = value[0] if value[0] in "\"'" else ""
    return f"{match['name']}{match['sign']}{quote}{REDACTED}{quote}"
