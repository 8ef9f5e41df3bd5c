"""The decoder where it is easily wrong: old tuples, buffers' ends, large feeds, error texts."""

from __future__ import annotations

import struct

import pytest

from smartstream.capture import pgoutput
from smartstream.capture.pgoutput import Messages, Parser
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

R1 = relation(1, "a", [("id", 25, True), ("x", 25, False)])
R2 = relation(2, "b", [("id", 25, True)])


def test_a_value_left_out_of_the_new_row_is_taken_from_the_old_one() -> None:
    stream = [
        R1, begin(10),
        update(1, [UNCHANGED, "p"], old=["long key", None]),
        update(1, ["1", UNCHANGED], old=["1", "long"], kind=b"O"),
        update(1, ["2", UNCHANGED], old=["2", None]),
        update(1, ["3", UNCHANGED]), commit(10),
    ]  # fmt: skip
    (block,) = Parser().feed(messages(stream)).blocks
    assert block.columns[0].values.to_pylist() == [b"long key", b"1", b"2", b"3"]
    assert block.columns[0].unchanged is None
    assert block.columns[1].values.to_pylist() == [b"p", b"long", None, None]
    assert block.columns[1].unchanged is not None
    assert block.columns[1].unchanged.tolist() == [False, False, True, True]


def test_deletes_hold_the_old_row_key_only_or_whole() -> None:
    stream = [R1, begin(10), delete(1, ["1", None]), delete(1, ["2", "x"], kind=b"O"), commit(10)]
    (block,) = Parser().feed(messages(stream)).blocks
    assert block.op.to_pylist() == ["d", "d"]
    assert [c.values.to_pylist() for c in block.columns] == [[b"1", b"2"], [None, b"x"]]
    assert block.old is None


def test_blocks_of_a_table_stand_in_stream_order_around_a_truncate() -> None:
    stream = [R1, begin(10), insert(1, ["1", "a"]), truncate(1), insert(1, ["2", "b"]), commit(10)]
    blocks = Parser().feed(messages(stream)).blocks
    assert [(b.op.to_pylist(), b.ordinal.to_pylist()) for b in blocks] == [
        (["i"], [0]),
        (["t"], [1]),
        (["i"], [2]),
    ]


def test_blocks_stand_in_the_order_of_their_first_rows() -> None:
    stream = [R1, R2, begin(10), insert(2, ["1"]), insert(1, ["1", "a"]), insert(2, ["2"]), commit(10)]
    assert [b.relation.name for b in Parser().feed(messages(stream)).blocks] == ["b", "a"]


def test_a_feed_reports_what_it_held() -> None:
    redefined = relation(1, "a", [("id", 25, True)])
    stream = [
        R1, begin(10, ts=1), insert(1, ["1", "a"]), truncate(1), commit(10),
        begin(20, ts=7), R1, insert(1, ["2", "a"]), redefined, insert(1, ["3"]), commit(20, 33),
        begin(40, ts=9),
    ]  # fmt: skip
    decoded = Parser(skip_before_lsn=20).feed(messages(stream))
    assert [len(r.columns) for r in decoded.relations] == [2, 1]
    assert (decoded.change_count, decoded.skipped_count) == (2, 2)
    assert decoded.commit_ts_max == 7 + pgoutput.POSTGRES_EPOCH_US
    assert decoded.end_lsn == 33
    assert decoded.in_transaction


def test_relations_of_skipped_transactions_are_known() -> None:
    stream = [begin(10), R1, insert(1, ["1", "a"]), commit(10), begin(20), insert(1, ["2", "a"]), commit(20)]
    (block,) = Parser(skip_before_lsn=20).feed(messages(stream)).blocks
    assert block.columns[0].values.to_pylist() == [b"2"]


def test_nothing_and_only_progress_are_no_rows() -> None:
    assert Parser().feed(messages([])).blocks == []
    empty = Parser().feed(messages([begin(10), commit(10, 18)]))
    assert (empty.blocks, empty.end_lsn, empty.commit_ts_max) == ([], 18, None)


def test_a_table_without_columns_has_rows() -> None:
    stream = [relation(1, "a", []), begin(10), insert(1, []), insert(1, []), commit(10)]
    (block,) = Parser().feed(messages(stream)).blocks
    assert (len(block.op), block.columns) == (2, [])


@pytest.mark.parametrize("row", [["", ""], ["", None], [None, None], ["a", ""], [UNCHANGED, None]])
def test_the_last_bytes_of_a_buffer_are_read_and_none_behind_them(row: list[object]) -> None:
    parser = Parser()
    parser.feed(messages([R1, begin(10)]))
    (block,) = parser.feed(messages([insert(1, row)])).blocks
    expected = [v.encode() if isinstance(v, str) else None for v in row]
    assert [c.values[0].as_py() for c in block.columns] == expected
    parser = Parser()
    parser.feed(messages([R1, begin(10)]))
    with pytest.raises(ProtocolError):
        parser.feed(messages([insert(1, row)[:-1]]))


def test_a_feed_larger_than_a_piece_is_the_same_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = [R1, begin(10), *(insert(1, [str(n), "v" * (n % 40)]) for n in range(100)), commit(10, 12)]
    (whole,) = Parser().feed(messages(stream)).blocks
    monkeypatch.setattr(pgoutput, "_PIECE_BYTES", 200)
    decoded = Parser().feed(messages(stream))
    assert len(decoded.blocks) > 5
    assert (decoded.end_lsn, decoded.change_count, decoded.in_transaction) == (12, 100, False)
    assert [n for b in decoded.blocks for n in b.ordinal.to_pylist()] == list(range(100))
    for column in range(2):
        pieces = [v for b in decoded.blocks for v in b.columns[column].values.to_pylist()]
        assert pieces == whole.columns[column].values.to_pylist()


def test_messages_may_lie_apart_in_their_buffer() -> None:
    parts = [R1, begin(10), insert(1, ["1", "a"]), insert(1, ["2", "b"]), commit(10)]
    spaced = messages([b"#" * 25 + part for part in parts])
    (block,) = Parser().feed(Messages(spaced.data, spaced.starts + 25, spaced.ends)).blocks
    assert block.columns[1].values.to_pylist() == [b"a", b"b"]


@pytest.mark.parametrize(
    ("stream", "what"),
    [
        ([insert(1, ["1", "p"])[:-1]], r"public\.a: the message Insert of the transaction at 0/16"),
        ([insert(1, ["1", "p"]), update(1, ["1"], old=["1", None])], "message Update .* 0/16 .* 2 columns"),
        ([update(1, ["1", "p"], old=["1"])], "message Update .* old row"),
        ([delete(9, ["1"])], "message Delete of the transaction at 0/16 names relation 9"),
        ([truncate(9)], "message Truncate of the transaction at 0/16 names relation 9"),
        ([insert(1, ["1", "p"])[:9] + b"\xff\xff\xff\xff"], "damaged"),
        ([commit(23)], "not the LSN of its Begin"),
        ([relation(1, "a", [], identity="z")], "replica identity"),
        ([b"M", commit(22)], "message M is cut off"),
    ],
)
def test_errors_name_the_message_and_its_transaction(stream: list[bytes], what: str) -> None:
    with pytest.raises(ProtocolError, match=what):
        Parser().feed(messages([R1, begin(22), *stream]))


def test_positions_outside_of_the_buffer_are_refused() -> None:
    good = messages([R1, begin(10), insert(1, ["1", "p"]), commit(10)])
    for starts, ends in (
        (good.starts - 1, good.ends), (good.starts, good.ends + 1), (good.starts, good.starts),
        (good.starts, good.ends + (1 << 40)), (good.starts[::-1].copy(), good.ends[::-1].copy()),
    ):  # fmt: skip
        with pytest.raises(ProtocolError):
            Parser().feed(Messages(good.data, starts, ends))


def test_impossible_times_and_positions_are_refused() -> None:
    for body in (struct.pack("!qqi", -1, 0, 1), struct.pack("!qqi", 1, 1 << 62, 1)):
        with pytest.raises(ProtocolError, match="impossible"):
            Parser().feed(messages([b"B" + body]))
