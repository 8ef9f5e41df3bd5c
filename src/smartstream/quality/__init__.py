"""Quality: what is measured of trusted tables, and what a table has promised to its readers.

The walk: ``config`` is what smartstream.yaml may say; ``row_checks`` turns what concerns single
rows into predicates for the rules' one pass; ``lake`` opens trusted tables to ``metrics``, whose
numbers ``evaluate`` holds against each ``threshold``; ``results`` keeps them in the table
``analytics.trusted_quality``; ``breaker`` stops a pipeline that rejects too much.
``schema_contract`` decides what a change of columns may do.  ``odcs`` speaks the Open Data
Contract Standard.
"""
