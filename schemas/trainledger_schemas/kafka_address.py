"""Where Kafka is and how to speak to it: TRAINLEDGER_KAFKA, read the same way by the agent and by ingest.

    host:port,host:port
    sasl_ssl://user:password@host:port,host:port?mechanism=SCRAM-SHA-512&cafile=/etc/ca.pem

The scheme is the security protocol in small letters with `_` or `-`; options are mechanism, password_file, cafile,
certfile and keyfile; user and password are percent-encoded. Passwords are never printed.
"""

from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from .errors import SettingsError

__all__ = ["KafkaAddress", "parse_kafka_address"]

_PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
_UNREADABLE = (
    "TRAINLEDGER_KAFKA cannot be read: write host:port, or sasl_ssl://user:password@host:port with the password "
    "percent-encoded (/ is %2F, ? is %3F, # is %23, @ is %40)"
)
_OPTIONS = frozenset({"mechanism", "password_file", "cafile", "certfile", "keyfile"})


@dataclass(frozen=True, slots=True)
class KafkaAddress:
    """Bootstrap servers (host:port, comma separated) and what the client must say to them.

    security_protocol   PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL; default PLAINTEXT.
    sasl_mechanism      for SASL_*: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512; default SCRAM-SHA-512.
    ssl_cafile, ssl_certfile, ssl_keyfile   PEM files; empty: the system's authorities, no client certificate.
    """

    bootstrap: str
    security_protocol: str = "PLAINTEXT"
    sasl_mechanism: str = "SCRAM-SHA-512"
    sasl_username: str = ""
    sasl_password: str = field(default="", repr=False)
    ssl_cafile: str = ""
    ssl_certfile: str = ""
    ssl_keyfile: str = ""

    def __post_init__(self) -> None:
        if not self.bootstrap.strip():
            raise SettingsError("the Kafka bootstrap servers are empty; give host:port, comma separated")
        if self.security_protocol not in _PROTOCOLS:
            raise SettingsError(
                f"security protocol {self.security_protocol!r} is unknown; use PLAINTEXT, SSL, SASL_PLAINTEXT"
                " or SASL_SSL"
            )
        if self.security_protocol.startswith("SASL") and not self.sasl_username:
            raise SettingsError(
                f"{self.security_protocol} needs a user name: TRAINLEDGER_KAFKA=sasl_ssl://user:..."
            )

    def servers(self) -> list[str]:
        """Each host:port."""
        return [item.strip() for item in self.bootstrap.split(",") if item.strip()]

    def security_options(self) -> dict[str, object]:
        """TLS and SASL by the names of the Python client; holds the password."""
        options: dict[str, object] = {"security_protocol": self.security_protocol}
        if self.security_protocol.startswith("SASL"):
            options["sasl_mechanism"] = self.sasl_mechanism
            options["sasl_plain_username"] = self.sasl_username
            options["sasl_plain_password"] = self.sasl_password
        files = {
            "ssl_cafile": self.ssl_cafile,
            "ssl_certfile": self.ssl_certfile,
            "ssl_keyfile": self.ssl_keyfile,
        }
        return options | {name: path for name, path in files.items() if path}


def parse_kafka_address(text: str) -> KafkaAddress:
    """Read TRAINLEDGER_KAFKA (see the module). Raises SettingsError, never with the password in it."""
    if "://" not in text:
        if "@" in text:
            raise SettingsError(_UNREADABLE)
        return KafkaAddress(text.strip())
    try:
        parts = urlsplit(text.replace("_", "-", 1) if "_" in text.partition("://")[0] else text)
        options = dict(parse_qsl(parts.query, strict_parsing=True)) if parts.query else {}
    except ValueError as error:
        raise SettingsError("TRAINLEDGER_KAFKA cannot be read as an address; write host:port") from error
    if parts.path.strip("/") or parts.fragment or "@" in parts.query:
        # A password that is not percent-encoded is cut at / ? or #: what is left of it may be anywhere.
        raise SettingsError(_UNREADABLE)
    unknown = options.keys() - _OPTIONS
    if unknown:
        raise SettingsError(f"TRAINLEDGER_KAFKA has unknown options: {', '.join(sorted(unknown))}")
    credentials, _, hosts = parts.netloc.rpartition("@")
    user, _, password = credentials.partition(":")
    if "password_file" in options:
        try:
            password = Path(options["password_file"]).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise SettingsError(f"the Kafka password file cannot be read: {error}") from error
    else:
        password = unquote(password)
    return KafkaAddress(
        hosts,
        security_protocol=parts.scheme.upper().replace("-", "_"),
        sasl_mechanism=options.get("mechanism", "SCRAM-SHA-512"),
        sasl_username=unquote(user),
        sasl_password=password,
        ssl_cafile=options.get("cafile", ""),
        ssl_certfile=options.get("certfile", ""),
        ssl_keyfile=options.get("keyfile", ""),
    )
