"""Delivery: raw objects that come in any order, some twice, become trusted tables.

On AWS changes reach the lake as objects that Firehose writes and a queue announces.
Neither keeps their order.  So a ledger remembers for each key which change was the
newest that was applied, and a change older than that one does nothing.  Everything
after it is what the pipeline on one machine does: fold, clean, check, commit.

Read in this order: ``order`` (which changes are news), ``ledger`` (what is known),
``definitions`` (what the tables look like), ``deliver`` (one batch of objects).
"""
