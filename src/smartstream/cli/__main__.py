"""``python -m smartstream.cli``."""

import sys

from smartstream.cli import main

sys.exit(main())
