"""The AWS stack: what its Lambda functions share, how it is operated, and what it costs.

``lambda_events`` and ``lambda_settings`` are imported by the handlers in ``lambdas/``
and stay free of heavy libraries; ``cost`` and ``operate`` are for the command line alone and
are not packed into the functions.
"""
