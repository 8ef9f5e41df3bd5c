import json, random, signal, threading, shutil, os
import psycopg
from tests.faults.daemon import Daemon
from tests.faults.test_kill import kill_at_random_moments, random_transactions
from tests.types_table import SETUP, create_statement, insert_statements
import pytest

@pytest.mark.parametrize("i", range(int(os.environ.get("HUNT", "12"))))
def test_hunt(i, database, tmp_path):
    seed = random.randrange(2**32); rng = random.Random(seed)
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute(SETUP); admin.execute(create_statement("everything"))
        admin.execute("CREATE TABLE pairs (a integer, b text, big text, n integer, PRIMARY KEY (a, b))")
        for start in range(0, 400, 20):
            for s in insert_statements("everything", first_id=start): admin.execute(s)
    stop = threading.Event()
    worker = threading.Thread(target=random_transactions, args=(database, random.Random(rng.random()), stop))
    daemon = Daemon(tmp_path, database); worker.start()
    try: kill_at_random_moments(daemon, rng)
    finally: stop.set(); worker.join()
    assert daemon.end(signal.SIGTERM) == 0
    r = daemon.verify()
    if not r["ok"]:
        out = f"/tmp/hunt/fail-{seed}"; shutil.copytree(tmp_path, out)
        open(out + "/result.json", "w").write(json.dumps(r, indent=1))
        for t in r["tables"]:
            for d in (t["differing"] or [])[:5]:
                if t["table"].endswith("everything"):
                    with psycopg.connect(database) as c:
                        cur = c.execute("SELECT row_to_json(e)::text, pg_current_wal_lsn() FROM everything e WHERE id=%s", (d["key"]["id"],))
                        open(out + "/source.txt", "a").write(repr(cur.fetchone()) + "\n")
        raise AssertionError((seed, out, json.dumps(r)[:1500]))
