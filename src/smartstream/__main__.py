"""``python -m smartstream``."""

import sys

from smartstream.cli import main

sys.exit(main())
