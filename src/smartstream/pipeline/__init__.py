"""The pipeline: the only place that knows the order of the stages.

Names are looked up when they are asked for: a Lambda function uses the table's writer,
and has none of the libraries that the whole pipeline needs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smartstream.pipeline.admission import discover
    from smartstream.pipeline.pipeline import Pipeline
    from smartstream.pipeline.progress import Progress, TableProgress

__all__ = ["Pipeline", "Progress", "TableProgress", "discover"]

_PLACES = {
    "Pipeline": "pipeline",
    "discover": "admission",
    "Progress": "progress",
    "TableProgress": "progress",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
