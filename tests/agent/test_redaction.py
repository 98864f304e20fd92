"""Secrets by name and by form; plain words stay."""

import re
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainledger import redaction
from trainledger.redaction import (
    REDACTED,
    clean_url,
    has_secret_form,
    hide_values_of,
    is_secret_name,
    redact,
    redact_argv,
)


@pytest.mark.parametrize(
    "name",
    "password DB_PASSWORD db-password apiKey api_key X-Api-Key HF_TOKEN hfToken token github_token AWS_SECRET_ACCESS_KEY "
    "private_key authorization set-cookie credentials secret client_secret passphrase accountKey".split(),
)
def test_secret_name(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name",
    "max_tokens pad_token_id num_tokens token_count tokens tokenizer key keys monkey keyboard lr secretary author "
    "TOKENIZERS_PARALLELISM passes mask_token".split()
    + [""],
)
def test_plain_name(name: str) -> None:
    assert not is_secret_name(name)


FORMS = [
    "AKIA" + "A" * 16,
    "ghp_" + "a" * 36,
    "github_pat_" + "a" * 30,
    "glpat-" + "a" * 20,
    "hf_" + "a" * 30,
    "sk-" + "a" * 40,
    "xoxb-" + "1" * 20,
    "AIza" + "a" * 35,
    "glrt-" + "a" * 20,
    "sk_live_" + "a" * 24,
    "rk_live_" + "a" * 24,
    "whsec_" + "a" * 32,
    "SG." + "a" * 22 + "." + "b" * 43,
    "dapi" + "0" * 32,
    "dop_v1_" + "0" * 64,
    "hvs." + "a" * 24,
    "ya29." + "a" * 30,
    "AGE-SECRET-KEY-1" + "A" * 58,
    "dckr_pat_" + "a" * 27,
    "gsk_" + "a" * 52,
    "r8_" + "a" * 37,
    "nvapi-" + "a" * 64,
    "glsa_" + "a" * 32,
    "shpat_" + "0" * 32,
    "AccountKey=" + "a" * 86 + "==",
    "eyJhbGciOiJI.eyJzdWIiOiIx.SflKxwRJSMeKKF2QT4",
    "-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n-----END OPENSSH PRIVATE KEY-----",
    "-----BEGIN PRIVATE KEY-----\nabc cut off",
]


@pytest.mark.parametrize("secret", FORMS, ids=lambda secret: secret[:12])
def test_form_of_a_secret_is_known_in_any_text(secret: str) -> None:
    assert redact(f"before {secret}") == f"before {REDACTED}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("postgres://user:pw@host/db", "postgres://[redacted]@host/db"),
        ("Authorization: Bearer abcdefghijklmnop", "Authorization: [redacted] [redacted]"),
        ("password=abc next", "password=[redacted] next"),
        ("1password=abc", "1password=[redacted]"),
        ("x" * 200 + "_password=abc", "x" * 200 + "_password=[redacted]"),
        ("?token=abc&x=1", "?token=[redacted]&x=1"),
        ("a.b.secret: abc", "a.b.secret: [redacted]"),
        ('{"api_key": "abc", "lr": 1}', '{"api_key": "[redacted]", "lr": 1}'),
        ("hf_token = 'a b c'", "hf_token = '[redacted]'"),
        ("loss=0.5 max_tokens=100 key=value", "loss=0.5 max_tokens=100 key=value"),
        ("https://host/path?x=1", "https://host/path?x=1"),
        (
            "https://b.s3.amazonaws.com/k?X-Amz-Signature=" + "0" * 64 + "&x=1",
            "https://b.s3.amazonaws.com/k?[redacted]&x=1",
        ),
        (
            "https://x.blob.core.windows.net/a?sv=1&sig=abcdefghijklmnop%3D",
            "https://x.blob.core.windows.net/a?sv=1&[redacted]",
        ),
        (
            "https://hooks.slack.com/services/T0000000/B0000000/" + "a" * 24,
            "https://hooks.slack.com/services/[redacted]",
        ),
        ("https://c/t/ab-00000000-0000-0000-0000-000000000000/x", "https://c/t/[redacted]/x"),
        ("sk_learn_model = gl-x; task_live_view", "sk_learn_model = gl-x; task_live_view"),
    ],
)
def test_secret_in_its_place(text: str, expected: str) -> None:
    assert redact(text) == expected


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--api-key", "X", "-v"], ["--api-key", REDACTED, "-v"]),
        (["--api-key=X"], [f"--api-key={REDACTED}"]),
        (["--password", "--lr"], ["--password", "--lr"]),
        (["--password", "-x"], ["--password", REDACTED]),
        (["PASSWORD=X", "a=b"], [f"PASSWORD={REDACTED}", "a=b"]),
        (["--lr", "0.1", "--max-tokens", "5"], ["--lr", "0.1", "--max-tokens", "5"]),
        (
            ["--header", "Authorization: Bearer abcdefghijklmnop"],
            ["--header", "Authorization: [redacted] [redacted]"],
        ),
        ([], []),
    ],
)
def test_command_line(argv: list[str], expected: list[str]) -> None:
    assert redact_argv(argv) == expected


def test_url_without_user() -> None:
    assert clean_url("https://user:pw@host/repo.git") == "https://host/repo.git"


@given(st.text(max_size=200))
def test_text_of_any_kind_is_redacted_once_and_for_all(text: str) -> None:
    once = redact(text)
    assert redact(once) == once


@pytest.mark.parametrize(
    "text", ["a=" * 50_000, "-----BEGIN A PRIVATE KEY-----" * 5000, "://@" * 50_000, "x" * 200_000]
)
def test_long_text_takes_no_longer_than_its_length(text: str) -> None:
    redact(text)  # the limit of the whole test run would tell


PARTS = (
    "hf_ ghp_ gho_ AKIA ASIA github_pat_ glpat- sk- xoxb- pypi- npm_ AIza eyJ . x 1 :// u: @ = : Bearer basic - _ api "
    "key Token SECRET pwd passphrase passwd cookie credentials ApiKey set max \u212a"
).split()
PIECES = st.sampled_from([*PARTS, " ", "\n", '"', "A" * 20, "b1" * 20, "http://u:"])


@given(st.lists(PIECES, max_size=30).map("".join))
def test_what_plain_searches_leave_out_is_what_no_pattern_matches(text: str) -> None:
    expected = re.sub(redaction._VALUE_FORMS, REDACTED, text)
    expected = re.sub(redaction._URL_USER, rf"\1{REDACTED}@", expected)
    expected = re.sub(redaction._BEARER, rf"\1 {REDACTED}", expected)
    assert redact(text) == re.sub(redaction._ASSIGNMENT, redaction._redact_assignment, expected)


@given(st.lists(PIECES, max_size=8).map("".join))
def test_every_secret_name_has_one_of_the_stems(name: str) -> None:
    assert not is_secret_name(name) or any(stem in name.lower() for stem in redaction._NAME_STEMS)


def test_every_secret_word_has_one_of_the_stems() -> None:
    words = redaction._SECRET_WORDS | {second for _, second in redaction._SECRET_PAIRS} | {"token"}
    assert all(any(stem in word for stem in redaction._NAME_STEMS) for word in words)


@pytest.fixture
def hidden() -> Iterator[Callable[[dict[str, str]], None]]:
    """Hides the values of an environment, and nothing any more at the end."""
    yield hide_values_of
    hide_values_of({})


def test_a_value_of_the_environment_under_a_secret_name_is_hidden_wherever_it_stands(
    hidden: Callable[[dict[str, str]], None],
) -> None:
    hidden({"DB_PASSWORD": "horse-battery-7", "MY_API_KEY": "horse-battery-7-long", "HOME": "/home/ann-77-x"})
    assert redact("tried horse-battery-7-long, then horse-battery-7") == f"tried {REDACTED}, then {REDACTED}"
    assert redact_argv(["x", "horse-battery-7"]) == ["x", REDACTED]
    assert has_secret_form("# horse-battery-7") and not has_secret_form("# horse-battery-8")
    assert redact("in /home/ann-77-x") == "in /home/ann-77-x"
    # By both rules at once it is taken out once.
    assert redact("MY_API_KEY=horse-battery-7-long") == f"MY_API_KEY={REDACTED}"
    assert redact("{'MY_API_KEY': 'horse-battery-7-long'}") == f"{{'MY_API_KEY': '{REDACTED}'}}"
    hidden({"TLS_SECRET": "first-line-1\nsecond-line-2\n"})
    assert redact("second-line-2 of first-line-1") == f"{REDACTED} of {REDACTED}"
    hidden({})
    assert redact("horse-battery-7") == "horse-battery-7"


def test_what_a_command_line_has_under_a_secret_name_is_hidden_in_its_output(
    hidden: Callable[[dict[str, str]], None],
) -> None:
    hide_values_of(
        {},
        [
            "train.py",
            "--api-key",
            "hunter2secret9",
            "--token=longer-token-3",
            "DB_PASSWORD=third-one-55",
            "-v",
        ],
    )
    printed = "error: unrecognized arguments: --api-key hunter2secret9 longer-token-3 third-one-55 -v"
    assert redact(printed) == f"error: unrecognized arguments: --api-key {REDACTED} {REDACTED} {REDACTED} -v"


@pytest.mark.parametrize(
    "value",
    ["short-77", "a-plain-word", "1234567890", "two words 77", "/etc/key-7.pem", "~/keys/id-77", "x7" * 4000],
)
def test_what_may_be_a_word_or_a_place_is_not_hidden(
    hidden: Callable[[dict[str, str]], None], value: str
) -> None:
    hidden({"DB_PASSWORD": value})
    assert redact(f"it is {value} here") == f"it is {value} here" and not has_secret_form(
        f"it is {value} here"
    )
