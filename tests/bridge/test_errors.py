"""What is printed is one line of a bounded length, whatever a file's names are."""

import pytest

from bridge import BridgeError
from bridge.errors import LONGEST_LINE, LONGEST_MESSAGE, one_line
from bridge.plan import WIDEST, table


def test_a_long_message_keeps_its_beginning_and_its_next_step() -> None:
    line = str(BridgeError(f"file.h5 names {'n' * 10_000_000}. Get the file again."))
    assert line.startswith("file.h5 names nnn")
    assert line.endswith("nnn. Get the file again.")
    assert " ... " in line
    assert len(line) < 1000


@pytest.mark.parametrize("text", ["as it is", "é", "n" * LONGEST_MESSAGE])
def test_a_message_of_usual_length_stays_as_it_is(text: str) -> None:
    assert str(BridgeError(text)) == text


def test_a_line_of_a_table_may_be_longer_and_is_bounded_too() -> None:
    assert one_line("n" * LONGEST_LINE) == "n" * LONGEST_LINE
    assert len(one_line("\x1b" * 10_000_000)) < LONGEST_LINE + 10


def test_what_a_terminal_obeys_is_not_printed() -> None:
    assert one_line("a\x1b[31m\nb\u202ec\u200dd") == "a?[31m b?c\u200dd"


def test_one_long_name_does_not_make_every_row_as_long() -> None:
    heading, long, short = table([("name", "shape"), ("n" * 5000, "[1]"), ("a", "[2]")])
    assert long == f"{'n' * 5000}  [1]"
    assert short == f"{'a':{WIDEST}}  [2]"
    assert heading == f"{'name':{WIDEST}}  shape"
