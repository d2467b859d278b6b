"""What tables remember of what clients send: it is bounded in entries, and each entry is small."""

from gateway.attribute import VALUE_CHARS
from gateway.remembered import KEPT_CHARS, TABLE_ENTRIES, Memory, Remembered


def test_what_all_tables_remember_is_bounded() -> None:
    """Distinct values without end empty the oldest table; the count stays that of the entries."""
    memory = Memory(entries=100)
    tables = [Remembered(len, memory) for _ in range(4)]
    for number in range(1_000):
        assert tables[number // 7 % 4][f"model {number}"] == len(f"model {number}")
        assert memory.used == sum(len(table.known) for table in tables) <= 100
    tables.pop()
    assert memory.used == sum(len(table.known) for table in tables)


def test_one_table_is_bounded() -> None:
    """One attribute of one app does not push out all the others."""
    table = Remembered(abs, Memory())
    for number in range(2 * TABLE_ENTRIES):
        table[number]
        assert len(table.known) <= TABLE_ENTRIES


def test_long_texts_are_worked_out_and_not_kept() -> None:
    """A text of 256 emoji takes a kilobyte: by the quarter million they would fill a machine."""
    memory = Memory()
    values, answers = Remembered(len, memory), Remembered(len, memory)
    for length in (KEPT_CHARS + 1, VALUE_CHARS):
        text = "\N{GRINNING FACE}" * length
        assert values[text] == length
        assert answers[0, 0, text] == 3
    assert memory.used == 0
    assert values["x" * KEPT_CHARS] == KEPT_CHARS
    assert answers[0, 0, None] == 3
    assert memory.used == 2


def test_a_table_that_forgets_and_fills_again_waits_once_to_be_emptied() -> None:
    """Answers with signed URLs are forgotten every period, for months: that leaves nothing."""
    memory = Memory(entries=3)
    first, second = Remembered(abs, memory), Remembered(abs, memory)
    for number in range(2_000):
        first.forget()
        first[number]
        second.forget()
        second[number]
    assert len(memory._filled) == 2
    for number in range(3):  # and the bound holds as ever
        second[number]
        assert memory.used == len(first.known) + len(second.known) <= 3
