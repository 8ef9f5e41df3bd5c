"""Features: a SQL file over trusted tables, and the keys whose features can have changed.

``query`` checks the text, ``affected`` turns it into questions for keys, ``narrow`` into one for
those keys only, ``pinned`` fixes the snapshots that one run reads.
"""
