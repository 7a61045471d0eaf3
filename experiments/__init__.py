"""Experiments on the library: studies of many runs, and the pages that they write."""
