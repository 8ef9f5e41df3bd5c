"""A steady load on ``orders``, in a process of its own so that it takes nothing from the pipeline's.

``python -m benchmarks.load URL RATE SECONDS ROWS`` prints how many rows it changed.
"""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time

import psycopg

from benchmarks.setting import FILL

TRANSACTIONS_PER_S = 200
SEED = 1


def apply_load(url: str, rate: int, seconds: float, rows: int) -> int:
    """Change ``orders`` at ``rate`` rows a second; return how many changes were made."""
    arguments = [sys.executable, "-m", "benchmarks.load", url, str(rate), str(seconds), str(rows)]
    done = subprocess.run(arguments, check=True, capture_output=True, text=True, timeout=seconds + 60)
    return int(done.stdout)


def _work(url: str, rate: int, seconds: float, rows: int) -> int:
    """Transactions of one UPDATE each, every tenth an INSERT, anywhere in the table."""
    choose, pause = random.Random(SEED), threading.Event()
    size = max(1, rate // TRANSACTIONS_PER_S)
    done, begin = 0, time.monotonic()
    with psycopg.connect(url) as connection:
        top = connection.execute("SELECT max(id) FROM orders").fetchone()
        assert top is not None
        next_id = top[0] + 1
        while (elapsed := time.monotonic() - begin) < seconds:
            if done > rate * elapsed:
                pause.wait(done / rate - elapsed)
                continue
            if choose.random() < 0.1:
                done += connection.execute(FILL, (next_id, next_id + size - 1)).rowcount
                next_id += size
            else:
                first = choose.randrange(1, rows - size)
                done += connection.execute(
                    "UPDATE orders SET quantity = quantity + 1, note = 'live' WHERE id >= %s AND id < %s",
                    (first, first + size),
                ).rowcount
            connection.commit()
    return done


if __name__ == "__main__":
    url, rate, seconds, rows = sys.argv[1:]
    sys.stdout.write(f"{_work(url, int(rate), float(seconds), int(rows))}\n")
