"""Rules: a table's rows cleaned and judged, one pass a batch, pure but for the user's hooks.

The walk: ``compile`` takes a table's rules and its schema; each rule's family (``text``,
``nulls``, ``casts``, ``timestamps``, ``digests``, ``computed``, ``hooks``, ``checks``,
``dedupe``) tells the ``builder`` what it does to the ``shape`` and what a row can fail;
``steps`` orders that into few SQL statements; ``compiled`` runs them, and ``verdict`` says
what becomes of each row.
"""

from smartstream.transform.rules.compile import compile_rules
from smartstream.transform.rules.compiled import Cleaned, CompiledRules, OutputColumn, no_rules
from smartstream.transform.rules.dedupe import Dedupe
from smartstream.transform.rules.verdict import Test, Verdict

__all__ = [
    "Cleaned",
    "CompiledRules",
    "Dedupe",
    "OutputColumn",
    "Test",
    "Verdict",
    "compile_rules",
    "no_rules",
]
