"""The command line.

``app`` holds the global options and the error boundary; each group of commands has
a file; ``render`` makes tables of what they find.  Heavy libraries are imported
inside the commands that need them, so that ``--help`` is quick.
"""

from smartstream.cli import (
    aws,
    aws_data,
    aws_destroy,
    aws_operate,
    contract,
    inspect,
    model,
    plan,
    quarantine,
    query,
    run,
    setup,
    why,
)
from smartstream.cli.app import app, main

__all__ = [
    "app",
    "aws",
    "aws_data",
    "aws_destroy",
    "aws_operate",
    "contract",
    "inspect",
    "main",
    "model",
    "plan",
    "quarantine",
    "query",
    "run",
    "setup",
    "why",
]
