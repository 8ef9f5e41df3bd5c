"""Any bytes give rows or ProtocolError, never anything else."""

from __future__ import annotations

import random

import pytest

from smartstream.capture.pgoutput import Parser
from smartstream.errors import ProtocolError
from tests.pgoutput_encoder import begin, commit, delete, insert, messages, relation, truncate, update

STREAM = [
    relation(1, "a", [("id", 23, True), ("x", 25, False)]),
    begin(10),
    insert(1, ["1", "hello"]),
    update(1, ["1", None], old=["2", None]),
    truncate(1),
    delete(1, ["1", None]),
    commit(10),
]


@pytest.mark.parametrize("seed", range(400))
def test_damage_anywhere_is_rows_or_a_protocol_error(seed: int) -> None:
    rng = random.Random(seed)
    stream = [bytearray(part) for part in STREAM]
    for _ in range(rng.randint(1, 4)):
        part = rng.choice(stream)
        if rng.random() < 0.3 and len(part) > 1:
            del part[rng.randrange(len(part)) :]
        elif part:
            part[rng.randrange(len(part))] = rng.choice([0, 1, 255, rng.randrange(256), *b"ntubKON"])
    if rng.random() < 0.2:
        rng.shuffle(stream)
    parser = Parser()
    try:
        parser.feed(messages([bytes(part) for part in stream if part]))
    except ProtocolError:
        return  # refused, with a reason: that is right


@pytest.mark.parametrize("seed", range(100))
def test_noise_is_refused(seed: int) -> None:
    rng = random.Random(seed)
    parts = [rng.choice(b"BCRIUDT").to_bytes(1, "big") + rng.randbytes(rng.randint(0, 40)) for _ in range(4)]
    with pytest.raises(ProtocolError):
        Parser().feed(messages(parts))
