"""What is measured, each beside its baseline in the same run: ``make bench``."""
