"""The decoder: transactions, relations, tuples."""

from __future__ import annotations

import pytest

from smartstream.capture.pgoutput import Parser, RowBlock, split_at_last_commit
from smartstream.errors import ProtocolError
from tests.pgoutput_encoder import (
    UNCHANGED,
    begin,
    commit,
    delete,
    insert,
    messages,
    relation,
    truncate,
    update,
)

INT, TEXT = 23, 25
R1 = relation(1, "a", [("id", INT, True), ("x", TEXT, False)])
R2 = relation(2, "b", [("id", INT, True)])


def rows(block: RowBlock) -> list[tuple[object, ...]]:
    """(op, LSN, ordinal, values…) of each row."""
    columns = [column.values.to_pylist() for column in block.columns]
    head = (block.op.to_pylist(), block.commit_lsn.to_pylist(), block.ordinal.to_pylist())
    return list(zip(*head, *columns, strict=True))


def test_rows_carry_their_transaction_and_their_place_in_it() -> None:
    decoded = Parser().feed(
        messages(
            [R1, R2, begin(10), insert(1, ["1", "p"]), insert(2, ["5"]), update(1, ["1", None]), commit(10),
             begin(30), delete(1, ["1", None]), commit(30, 44)]
        )
    )  # fmt: skip
    a, b = decoded.blocks
    assert rows(a) == [
        ("i", 10, 0, b"1", b"p"),
        ("u", 10, 2, b"1", None),
        ("d", 30, 0, b"1", None),
    ]
    assert rows(b) == [("i", 10, 1, b"5")]
    assert decoded.end_lsn == 44
    assert not decoded.in_transaction
    assert decoded.change_count == 4


def test_a_transaction_may_be_cut_anywhere() -> None:
    stream = [R1, begin(10), *(insert(1, [str(n), "v"]) for n in range(6)), commit(10)]
    for cut in range(1, len(stream)):
        parser = Parser()
        first, second = parser.feed(messages(stream[:cut])), parser.feed(messages(stream[cut:]))
        assert first.in_transaction == (cut > 1)
        assert not second.in_transaction
        found = [row for part in (first, second) for block in part.blocks for row in rows(block)]
        assert [row[1:4] for row in found] == [(10, n, str(n).encode()) for n in range(6)]


def test_unchanged_values_are_told_from_nulls() -> None:
    parser = Parser()
    stream = [R1, begin(10), update(1, ["1", UNCHANGED]), update(1, ["2", None]), commit(10)]
    (block,) = parser.feed(messages(stream)).blocks
    assert block.columns[1].values.to_pylist() == [None, None]
    assert block.columns[1].unchanged is not None
    assert block.columns[1].unchanged.tolist() == [True, False]


def test_an_old_tuple_belongs_to_its_own_update() -> None:
    stream = [
        R1, begin(10), update(1, ["1", "a"]), update(1, ["3", "b"], old=["2", None]),
        update(1, ["4", "c"], old=["4", "z"], kind=b"O"), commit(10),
    ]  # fmt: skip
    (block,) = Parser().feed(messages(stream)).blocks
    assert block.columns[0].values.to_pylist() == [b"1", b"3", b"4"]
    assert block.old is not None and block.has_old is not None
    assert block.has_old.tolist() == [False, True, True]
    assert block.old["id"].to_pylist() == [None, b"2", b"4"]


def test_a_relation_redefined_on_the_way_divides_the_rows() -> None:
    wider = relation(1, "a", [("id", INT, True), ("x", TEXT, False), ("y", TEXT, False)])
    stream = [R1, begin(10), insert(1, ["1", "p"]), R1, wider, insert(1, ["2", "p", "q"]), commit(10)]
    first, second = Parser().feed(messages(stream)).blocks
    assert len(first.columns) == 2 and len(second.columns) == 3
    assert rows(second) == [("i", 10, 1, b"2", b"p", b"q")]


def test_truncate_is_a_change_of_each_of_its_tables() -> None:
    stream = [R1, R2, begin(10), insert(1, ["1", "p"]), truncate(1, 2), insert(1, ["2", "q"]), commit(10)]
    found = {(b.relation.name, r[0], r[2]) for b in Parser().feed(messages(stream)).blocks for r in rows(b)}
    assert found == {("a", "t", 1), ("b", "t", 1), ("a", "i", 0), ("a", "i", 2)}


def test_transactions_that_are_durable_already_are_dropped() -> None:
    stream = [
        R1,
        begin(10),
        insert(1, ["1", "p"]),
        commit(10, 20),
        begin(20),
        insert(1, ["2", "q"]),
        commit(20),
    ]
    (block,) = Parser(skip_before_lsn=20).feed(messages(stream)).blocks
    assert rows(block) == [("i", 20, 0, b"2", b"q")]


def test_origins_types_and_messages_are_passed_over() -> None:
    stream = [
        b"O" + bytes(9),
        b"Y" + bytes(6),
        R1,
        begin(10),
        b"M" + bytes(14),
        insert(1, ["1", "p"]),
        commit(10),
    ]
    (block,) = Parser().feed(messages(stream)).blocks
    assert rows(block) == [("i", 10, 0, b"1", b"p")]


def test_messages_are_split_behind_the_last_commit() -> None:
    whole, tail = split_at_last_commit(messages([begin(1), commit(1), begin(2)]))
    assert len(whole.starts) == 2 and len(tail.starts) == 1
    whole, tail = split_at_last_commit(messages([begin(1)]))
    assert len(whole.starts) == 0 and len(tail.starts) == 1


@pytest.mark.parametrize(
    ("stream", "what"),
    [
        ([R1, insert(1, ["1", "p"])], "outside of a transaction"),
        ([begin(1), begin(2)], "don't alternate"),
        ([commit(1)], "don't alternate"),
        ([begin(1), insert(9, ["1"])], "not described"),
        ([R1, begin(1), insert(1, ["1"])], "2 columns"),
        ([R1, begin(1), insert(1, ["1", "p"])[:-1]], "longer than its message"),
        ([R1, begin(1), insert(1, ["1", "p"]) + b"x"], "followed by other bytes"),
        ([R1, begin(1), insert(1, ["1", "p"]).replace(b"t\0\0\0\1p", b"b\0\0\0\1p")], "binary"),
        ([R1, begin(1), b"I\0\0\0\1Q"], "marker|cut off"),
        ([b"Z"], "unknown kind"),
        ([begin(1)[:-1]], "wrong length"),
        ([R1[:-3]], "wrong length"),
        ([R1[:-12]], "damaged"),
        ([R1, begin(1), truncate(1)[:-1]], "wrong length"),
        ([R1, begin(1), b"U\0\0\0\1K\0\2nn"], "no new row|longer"),
    ],
)
def test_damaged_messages_are_refused(stream: list[bytes], what: str) -> None:
    with pytest.raises(ProtocolError, match=what):
        Parser().feed(messages(stream))
