"""The AWS stack: what its Lambda functions share, and what it costs.

``lambda_events`` and ``lambda_settings`` are imported by the handlers in ``lambdas/``
and stay free of heavy libraries; ``cost`` is for the command line alone and is not
packed into the functions.
"""
