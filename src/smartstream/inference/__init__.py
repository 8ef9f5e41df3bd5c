"""Inference: features from trusted tables, a model, predictions into analytics tables.

Read in this order: ``config`` (what a model says), ``schedule`` (when), ``features``
(the query, and whose features changed), ``models`` (load and predict), ``score`` (one run),
``drift`` (what the features and predictions look like over time).
"""
