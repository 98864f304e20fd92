"""Output bytes to log lines."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainledger import lines as lines_module
from trainledger.lines import LINE_BYTES_MAX, LINE_PIECES_MAX, STATE_INTERVAL_US, LineSplitter


def split(*chunks: bytes, step_us: int = 0) -> list[str]:
    splitter = LineSplitter()
    lines: list[str] = []
    for number, chunk in enumerate(chunks):
        lines += splitter.feed(chunk, number * step_us)
    return lines + splitter.close()


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        pytest.param(b"one\ntwo\n", ["one", "two"], id="plain"),
        pytest.param(b"one\n\n\ntwo", ["one", "", "", "two"], id="blank lines and no end"),
        pytest.param(b"one\r\n\r\ntwo\r\n", ["one", "", "two"], id="returns before newlines"),
        pytest.param(b"\xff\xfeab\x00\n", ["\ufffd\ufffdab\x00"], id="binary"),
        pytest.param(b"\x1b[31mred\x1b[0m \x1b]0;title\x07end\n", ["red end"], id="escapes"),
        pytest.param(b"a\rb\rc\n", ["c"], id="redrawn"),
        pytest.param(b"50%\r100%\r     \r", ["100%"], id="wiped at the end"),
        pytest.param(b"\x08\x08\x08\rstep 1\x08\x08\rstep 2\n", ["step 2"], id="backspaces"),
        pytest.param(b"", [], id="nothing"),
    ],
)
def test_lines_are_what_a_reader_would_have_seen(data: bytes, lines: list[str]) -> None:
    assert split(data) == lines


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=5))
def test_lines_do_not_depend_on_how_the_bytes_arrive(data: bytes, cuts: list[int]) -> None:
    edges = [0, *sorted(cut for cut in cuts if cut <= len(data)), len(data)]
    chunks = [data[a:b] for a, b in zip(edges, edges[1:], strict=False)]
    assert split(*chunks) == split(data)


PIECES = st.sampled_from([b"\n", b"\xff", b"\xe2\x82", b"\xe2\x82\xac", b"one", b"a" * 40, b"\n\n"])


@given(st.lists(PIECES, max_size=40), st.integers(0, 400))
def test_plain_output_gives_the_same_lines_on_the_fast_and_on_the_slow_way(
    pieces: list[bytes], cut: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines_module, "LINE_BYTES_MAX", 60)
        patch.setattr(lines_module, "LINE_PIECES_MAX", 3)
        data = b"".join(pieces)
        fast, slow = LineSplitter(), LineSplitter()
        patch.setattr(slow, "_are_plain", lambda whole, pieces: False)
        for chunk in (data[:cut], data[cut:]):
            assert fast.feed(chunk, 0) == slow.feed(chunk, 0)
        assert fast.close() == slow.close()
        assert (fast.left_out_bytes, fast.left_out_lines) == (slow.left_out_bytes, slow.left_out_lines)
        assert fast.left_out_lines == 0 or fast.left_out_bytes > 0


def test_progress_bar_keeps_its_last_state_of_each_second_and_the_final_one() -> None:
    chunks = [f"\rstep {number}/1000".encode() for number in range(1001)]
    lines = split(*chunks, b"\ndone\n", step_us=STATE_INTERVAL_US // 100)
    assert 8 <= len(lines) <= 13
    assert lines[-2:] == ["step 1000/1000", "done"]
    assert len(set(lines)) == len(lines)


def test_state_that_was_kept_already_is_not_kept_again_at_the_end_of_the_line() -> None:
    splitter = LineSplitter()
    assert splitter.feed(b"50%\r", 0) == []
    assert splitter.tick(STATE_INTERVAL_US) == ["50%"]
    assert splitter.tick(STATE_INTERVAL_US * 9) == []
    assert splitter.feed(b"\nnext\n", STATE_INTERVAL_US * 10) == ["next"]


def test_half_a_state_is_not_kept_while_a_whole_one_is_there() -> None:
    splitter = LineSplitter()
    splitter.feed(b"\rstep 10\rste", 0)
    assert splitter.tick(STATE_INTERVAL_US) == ["step 10"]


def test_waiting_line_without_returns_is_not_cut_by_time() -> None:
    splitter = LineSplitter()
    splitter.feed(b"loading ... ", 0)
    assert splitter.tick(STATE_INTERVAL_US * 100) == []
    assert splitter.feed(b"done\n", STATE_INTERVAL_US * 100) == ["loading ... done"]


def test_long_line_is_cut_into_pieces_between_characters() -> None:
    text = "ä" * LINE_BYTES_MAX
    lines = split(b"x" + text.encode() + b"\nnext\n")
    assert "".join(lines[:-1]) == "x" + text
    assert all(len(line.encode()) <= LINE_BYTES_MAX for line in lines)
    assert lines[-1] == "next"


def test_endless_line_is_counted_beyond_the_limit_and_takes_no_memory() -> None:
    splitter = LineSplitter()
    lines: list[str] = []
    blocks = LINE_PIECES_MAX * 4
    for _ in range(blocks):
        lines += splitter.feed(b"z" * LINE_BYTES_MAX, 0)
    lines += splitter.feed(b"\nnext\n", 0)
    assert len(lines) == LINE_PIECES_MAX + 2
    assert (
        lines[-2]
        == f"[trainledger: {(blocks - LINE_PIECES_MAX) * LINE_BYTES_MAX} more bytes of this line were left out]"
    )
    assert lines[-1] == "next"


@pytest.mark.parametrize(
    ("before", "gap"),
    [("x", " "), ("password=", ""), ("é", ","), ("a=1&b", "&")],
    ids=["space", "name", "comma", "and"],
)
def test_long_line_is_cut_between_words_and_loses_nothing(before: str, gap: str) -> None:
    word = "w" * 100
    text = "x" * (LINE_BYTES_MAX - 60 - len(before.encode())) + " " + before + gap + word
    splitter = LineSplitter()
    first, second = splitter.feed(text.encode() + b"\n", 0)
    assert first + second == text
    assert second == (before if not gap else "") + word


def test_long_line_without_any_gap_is_cut_all_the_same() -> None:
    lines = LineSplitter().feed(b"x" * (2 * LINE_BYTES_MAX + 5) + b"\n", 0)
    assert [len(line) for line in lines] == [LINE_BYTES_MAX, LINE_BYTES_MAX, 5]
