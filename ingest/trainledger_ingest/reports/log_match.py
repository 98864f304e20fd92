"""What `--grep` looks for: a text, or a regular expression of RE2, asked of the engine and of lines that are here."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from trainledger_schemas.errors import UsageError

__all__ = ["LogPattern"]


@dataclass(frozen=True, slots=True)
class LogPattern:
    """`is_regex`: `text` is an expression of RE2. `ignore_case`: letters of both cases are the same.

    Raises UsageError for an expression that is none."""

    text: str
    is_regex: bool = False
    ignore_case: bool = False

    def __post_init__(self) -> None:
        if not self.text:
            raise UsageError("--grep needs a text to look for")
        try:
            self.matches([""])
        except pa.ArrowInvalid as error:
            raise UsageError(f"--grep {self.text!r} is no regular expression of RE2: {error}") from None

    def condition(self, column: str) -> tuple[str, dict[str, object]]:
        """A condition of SQL and its parameters. Only `LIKE` and `match` are helped by the index of the lines."""
        if self.is_regex:
            flags = "(?i)" if self.ignore_case else ""
            return f"match({column}, {{grep:String}})", {"grep": f"{flags}{self.text}"}
        if self.ignore_case:
            return f"positionCaseInsensitiveUTF8({column}, {{grep:String}}) > 0", {"grep": self.text}
        escaped = self.text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        return f"{column} LIKE {{grep:String}}", {"grep": f"%{escaped}%"}

    def matches(self, lines: Sequence[str]) -> list[bool]:
        """Which of these lines match, as the engine would say."""
        array = pa.array(lines, pa.string())
        search = pc.match_substring_regex if self.is_regex else pc.match_substring
        found: list[bool] = search(array, self.text, ignore_case=self.ignore_case).to_pylist()
        return found
