"""Start moto's server with composite alarms, which it keeps but has no operation to make.

Ends when its standard input does, so that it never outlives the tests.
"""

from __future__ import annotations

import os
import sys
import threading

from moto.cloudwatch.responses import CloudWatchResponse
from moto.server import main

# It reads the rule of a composite alarm as well, and describes such alarms apart.
CloudWatchResponse.put_composite_alarm = CloudWatchResponse.put_metric_alarm


def _end_with_input() -> None:
    os.read(sys.stdin.fileno(), 1)  # Blocks: nobody writes.
    os._exit(0)


if __name__ == "__main__":
    threading.Thread(target=_end_with_input, daemon=True).start()
    main()
