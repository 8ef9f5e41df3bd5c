"""The pipeline: the only place that knows the order of the stages."""

from smartstream.pipeline.pipeline import Pipeline, discover
from smartstream.pipeline.progress import Progress, TableProgress

__all__ = ["Pipeline", "Progress", "TableProgress", "discover"]
