"""The process in which a model that is code runs; started by ``process``, spoken to through pipes.

A message is its length in 8 bytes, then that many bytes.  The first one says what to run,
the others are Arrow tables; each is answered by a kind (one byte) and a table or a text.
This file is run by its path: it imports nothing of SmartStream.
"""

from __future__ import annotations

import faulthandler
import io
import json
import os
import resource
import sys
import threading
import traceback
import types
from collections.abc import Callable
from typing import IO, Any

import pyarrow as pa

ANSWER, FAILURE, OUT_OF_MEMORY = b"A", b"F", b"M"
PREDICTION = "prediction"
_LOOK_EVERY_S = 1.0


def write_message(pipe: IO[bytes], data: bytes) -> None:
    """Send one message."""
    pipe.write(len(data).to_bytes(8, "big"))
    pipe.write(data)
    pipe.flush()


def read_message(pipe: IO[bytes]) -> bytes | None:
    """Receive one message; None when the other side has gone."""
    head = pipe.read(8)
    if len(head) < 8:
        return None
    return pipe.read(int.from_bytes(head, "big"))


def to_bytes(table: pa.Table) -> bytes:
    """A table as an Arrow stream."""
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return sink.getvalue()


def from_bytes(data: bytes) -> pa.Table:
    """Inverse of ``to_bytes``."""
    return pa.ipc.open_stream(data).read_all()


def main() -> None:
    """Serve until the pipe is closed."""
    commands, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    _separate()
    order = json.loads(read_message(commands) or b"{}")
    try:
        _limit(order["memory"])
        load = _load_folder if order["kind"] == "mlflow" else _load_function
        function = load(order)
        write_message(answers, ANSWER)
        while (data := read_message(commands)) is not None:
            write_message(answers, ANSWER + to_bytes(_table(function(from_bytes(data)))))
    except BaseException as error:  # the code may raise anything, SystemExit too
        write_message(answers, _problem(error))


def _separate() -> None:
    """Keep the code from our pipes: it reads nothing, and what it prints is no answer."""
    faulthandler.enable(all_threads=False)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    parent = os.getppid()

    def leave() -> None:
        while os.getppid() == parent:
            threading.Event().wait(_LOOK_EVERY_S)
        os._exit(1)

    # Code that never returns does not see that the pipe is closed.
    threading.Thread(target=leave, daemon=True).start()


def _limit(memory: int) -> None:
    """Take no more memory than this, and leave no core file."""
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _load_function(order: dict[str, Any]) -> Callable[[pa.Table], Any]:
    """The function in a file."""
    path = os.path.join(order["folder"], order["file"])
    with open(path, encoding="utf-8") as file:
        source = file.read()
    module = types.ModuleType("smartstream_model")
    module.__file__ = path
    sys.modules[module.__name__] = module
    exec(compile(source, path, "exec"), module.__dict__)  # the code's hash has been checked
    function: Callable[[pa.Table], Any] = getattr(module, order["function"])
    return function


def _load_folder(order: dict[str, Any]) -> Callable[[pa.Table], Any]:
    """The prediction of a model that MLflow has written."""
    import mlflow.pyfunc

    model = mlflow.pyfunc.load_model(order["folder"])
    return lambda features: model.predict(features.to_pandas())


def _table(found: Any) -> pa.Table:
    """What the code gave, as a table."""
    if isinstance(found, pa.Table):
        return found
    if isinstance(found, pa.RecordBatch):
        return pa.Table.from_batches([found])
    library = type(found).__module__.partition(".")[0]
    if library == "pandas" and type(found).__name__ == "DataFrame":
        table = pa.Table.from_pandas(found, preserve_index=False)
        return table.rename_columns([PREDICTION]) if table.num_columns == 1 else table
    if library == "numpy" and getattr(found, "ndim", 0) == 2:
        found = found[:, 0] if found.shape[1] == 1 else pa.array(list(found))
    if library == "pandas":
        found = pa.array(found.to_numpy())
    if library == "numpy" or isinstance(found, (pa.Array, pa.ChunkedArray)):
        return pa.table({PREDICTION: found})
    raise TypeError(f"the function returned {type(found).__name__}, not a table or an array of Arrow")


def _problem(error: BaseException) -> bytes:
    """What went wrong, and where; never the error's own text, which may quote values."""
    if isinstance(error, MemoryError):
        return OUT_OF_MEMORY
    text = str(error)
    if type(error) is TypeError and text.startswith("the function returned "):
        return FAILURE + text.encode()
    if isinstance(error, ModuleNotFoundError):
        return FAILURE + f"there is no module {error.name}".encode()
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__]
    where = f" at line {frames[-1].lineno} of {os.path.basename(frames[-1].filename)}" if frames else ""
    return FAILURE + f"{type(error).__name__}{where}".encode()


if __name__ == "__main__":
    main()
