"""The running stack on AWS: filling, starting, watching, asking, repairing and removing it.

``stack`` says what Terraform made, ``calls`` is the way to AWS: every request goes through
it, so that a missing right always names its action and resource, and a dry run changes
nothing.  One file for each concern beside them; none prints, none reads a clock of its own.
"""
