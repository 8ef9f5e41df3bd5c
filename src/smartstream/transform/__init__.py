"""Transform: pure functions from a changelog to what a trusted table must become."""
