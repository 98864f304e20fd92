"""Files with secrets are withheld; code that merely handles secrets is kept."""

import pytest

from trainledger.provenance.withholding import holds_secret, is_secret_file

PASSWORD = "hunter2" + "hunter2"
TOKEN = "ghp_" + "abcdefghijklmnopqrstuvwxyz0123456789"


@pytest.mark.parametrize(
    "name",
    [".env", "a/.env.local", "key.pem", "id_rsa", "id_ed25519", ".netrc", "aws_credentials", "credentials.json",
     "kubeconfig", "secrets.yaml", "x/.git-credentials"],
)  # fmt: skip
def test_names_of_secret_files(name: str) -> None:
    assert is_secret_file(name)


@pytest.mark.parametrize(
    "name",
    [".env.example", "id_rsa.pub", "credentials.py", "id_map.py", "environment.yml", "keys.py", "secrets.py", "train.py"],
)  # fmt: skip
def test_names_that_are_code_or_templates_are_kept(name: str) -> None:
    assert not is_secret_file(name)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.py", f"login('{TOKEN}')"),
        ("a.py", f'api_key = "{PASSWORD}"'),
        ("a.py", f'settings = {{"password": "{PASSWORD}"}}'),
        ("a.py", f"url = 'postgresql://me:{PASSWORD}@db/x'"),
        ("a.yaml", f"db_password: {PASSWORD}\n"),
        ("run.sh", f"export HF_TOKEN={PASSWORD}\n"),
        ("Dockerfile", f"API_KEY={PASSWORD}\n"),
        ("a.py", "headers = 'Authorization: Bearer 0a1b2c3d4e5f6a7b8c9d'"),
        ("a.md", f"AccountKey={'a1' * 20}=="),
        ("key.txt", "-----BEGIN RSA PRIVATE KEY-----\nabc"),
    ],
)
def test_contents_with_secrets(name: str, text: str) -> None:
    assert holds_secret(name, text)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.py", "password = os.environ['DB_PASSWORD1']"),
        ("a.py", "api_key=args.api_key1"),
        ("a.py", "tokenizer = 'bert2base'\nmax_tokens = '100k'\npad_token = '<pad1>'"),
        ("a.py", 'password = "changeme"'),
        ("a.py", "# basic authentication_of_all_requests; Bearer {token_number_1_of_this_run}"),
        ("a.py", "# https://user:password@example.com/x"),
        ("a.py", "url = f'https://me:{password1}@example.com'"),
        ("a.yaml", "password: ${DB_PASSWORD1}\nsecret_name: my-secret\n"),
        ("run.sh", "export HF_TOKEN=$(cat token1)\n"),
        ("a.py", "commit = '0123456789abcdef0123456789abcdef01234567'"),
    ],
)
def test_code_that_handles_secrets_is_kept(name: str, text: str) -> None:
    assert not holds_secret(name, text)


@pytest.mark.parametrize(
    "before", ["", "a key\n" * 400, "x" * 5000 + "\n", "\u0130 token\n" * 50, "no such name\n" * 900]
)
def test_secret_deep_in_a_long_text_is_found(before: str) -> None:
    assert holds_secret("a.py", f'{before}db_password = "{PASSWORD}"\n' + "behind\n" * 500)
    assert holds_secret("a.yaml", f"{before}db_password: {PASSWORD}\n" + "behind\n" * 500)
    assert not holds_secret("a.yaml", f"{before}plain: {PASSWORD}\n")
