"""``python -m smartstream``: the command line."""

import sys

from smartstream.cli import main

sys.exit(main())
