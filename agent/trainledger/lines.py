"""Bytes of a program's output to lines of text: a pure state object, no IO.

Guarantees: every line that ended is returned once and in order; a last line without its end is returned by
`close`; a progress bar that redraws itself with carriage returns gives its last state at most once a second,
and its final state always; bytes that are not UTF-8 become U+FFFD; nothing grows without a bound.

Limits: a line is cut into pieces of at most LINE_BYTES_MAX, between words; LINE_PIECES_MAX of them are kept, and what
was left out is counted in a line of its own, and in `left_out_bytes` and `left_out_lines` of the splitter. Terminal
escape sequences (colours, cursor movement) and backspaces are left out, since they say how text was painted, and could
repaint the terminal of whoever reads the log later.
"""

import re

__all__ = ["LINE_BYTES_MAX", "LINE_PIECES_MAX", "STATE_INTERVAL_US", "LineSplitter"]

# One line of JSON escapes (six bytes for a control character) must fit a journal record of 256 KiB.
LINE_BYTES_MAX = 16 * 1024
LINE_PIECES_MAX = 64
STATE_INTERVAL_US = 1_000_000

# How far back from the end of a piece a gap is looked for: longer than any secret but a key file.
GAP_BYTES_MAX = 4096
# Not behind a sign of assignment: name and value belong together.
_GAPS = re.compile(rb"(?<![:=])[\s,;&]")
_ESCAPES = re.compile(
    rb"\x1b(?:\[[0-?]*[ -/]*[@-~]"  # control sequences: colours, cursor, erase
    rb"|\][^\x07\x1b]{0,4096}(?:\x07|\x1b\\)?"  # operating system commands: titles, links
    rb"|[PX^_][^\x1b]{0,4096}(?:\x1b\\)?"  # device control and other strings
    rb"|[ -/]*[0-~])?"
)


class LineSplitter:
    """The output of one stream, piece by piece, as lines; see the module for what it promises."""

    def __init__(self) -> None:
        self._rest = b""
        self._pieces = 0
        self._left_out_bytes = 0
        self.left_out_bytes = 0
        self.left_out_lines = 0
        self._shown: bytes | None = None
        self._state_due_us: int | None = None

    def feed(self, data: bytes, now_us: int) -> list[str]:
        """The lines that `data` completes, read at `now_us`."""
        whole = self._rest + data
        pieces = whole.split(b"\n")
        self._rest = pieces.pop()
        if self._are_plain(whole, pieces):
            # All lines in one go, eight times faster: most output is of this kind.
            complete = whole[: len(whole) - len(self._rest) - 1]
            lines = complete.decode("utf-8", errors="replace").split("\n") if pieces else []
            self._rest = self._cut(self._rest, lines)
            return lines
        lines = []
        for piece in pieces:
            self._end_line(piece, lines)
        if b"\r" in self._rest:
            self._rest = _squeeze(self._rest)
        self._rest = self._cut(self._rest, lines)
        lines += self.tick(now_us)
        return lines

    def tick(self, now_us: int) -> list[str]:
        """The state of a progress bar, when a second has passed since the last one; call it now and then."""
        if b"\r" not in self._rest:
            return []
        if self._state_due_us is None:
            self._state_due_us = now_us + STATE_INTERVAL_US
        if now_us < self._state_due_us:
            return []
        complete, _, current = self._rest.rpartition(b"\r")
        # The part behind the last return may be half of a state; the one before it is whole.
        state = current if _is_blank(complete) else complete
        if _is_blank(state) or state == self._shown:
            return []
        self._state_due_us = now_us + STATE_INTERVAL_US
        self._shown = state
        return [_text(state[:LINE_BYTES_MAX])]

    def close(self) -> list[str]:
        """The last line, if it has no end."""
        lines: list[str] = []
        if self._rest or self._left_out_bytes:
            self._end_line(self._rest, lines)
        self._rest = b""
        return lines

    def _are_plain(self, whole: bytes, pieces: list[bytes]) -> bool:
        """Whether each of the whole lines is its own text, and none is too long or began before."""
        return (
            not (self._pieces and pieces)
            and self._shown is None
            and not any(mark in whole for mark in (b"\r", b"\x1b", b"\x08"))
            and max(map(len, pieces), default=0) <= LINE_BYTES_MAX
        )

    def _end_line(self, line: bytes, lines: list[str]) -> None:
        final = _final_state(line) if b"\r" in line else line
        already_shown = self._shown is not None and (_is_blank(final) or final == self._shown)
        if self._pieces == 0 and not already_shown and len(final) <= LINE_BYTES_MAX:
            lines.append(_text(final))
        elif not already_shown:
            last = self._cut(final, lines)
            if last:
                self._keep_piece(last, lines)
        if self._left_out_bytes:
            lines.append(f"[trainledger: {self._left_out_bytes} more bytes of this line were left out]")
            self.left_out_bytes += self._left_out_bytes
            self.left_out_lines += 1
        self._pieces = self._left_out_bytes = 0
        self._shown = None
        self._state_due_us = None

    def _cut(self, line: bytes, lines: list[str]) -> bytes:
        """Take whole pieces off a line that is too long to wait for its end; returns what is left."""
        start = 0
        while len(line) - start > LINE_BYTES_MAX:
            end = _last_gap(line, start + LINE_BYTES_MAX)
            self._keep_piece(line[start:end], lines)
            start = end
        return line[start:]

    def _keep_piece(self, piece: bytes, lines: list[str]) -> None:
        if self._pieces < LINE_PIECES_MAX:
            lines.append(_text(piece))
        else:
            self._left_out_bytes += len(piece)
        self._pieces += 1


def _last_gap(line: bytes, end: int) -> int:
    """Where to cut a line that is too long, at most at `end`: between words, so that a secret stays in one piece
    and is known; where there is no gap, between characters."""
    gaps = _GAPS.finditer(line, end - GAP_BYTES_MAX, end)
    last = max((gap.end() for gap in gaps), default=0)
    # Not between the bytes of one character, if the text is UTF-8 at all.
    return last or end - next((back for back in range(4) if line[end - back] & 0xC0 != 0x80), 0)


def _squeeze(rest: bytes) -> bytes:
    """An unfinished line reduced to its last whole state and what came behind it."""
    *states, current = rest.split(b"\r")
    complete = next((state for state in reversed(states) if not _is_blank(state)), b"")
    return complete + b"\r" + current


def _final_state(line: bytes) -> bytes:
    """What stands on the screen when the line ends: the last state that shows anything."""
    return next((state for state in reversed(line.split(b"\r")) if not _is_blank(state)), b"")


def _is_blank(state: bytes) -> bool:
    if b"\x1b" in state:
        state = _ESCAPES.sub(b"", state)
    return not state.strip(b" \t\x08\x00")


def _text(line: bytes) -> str:
    if b"\x1b" in line:
        line = _ESCAPES.sub(b"", line)
    if b"\x08" in line:
        line = line.replace(b"\x08", b"")
    return line.decode("utf-8", errors="replace")
