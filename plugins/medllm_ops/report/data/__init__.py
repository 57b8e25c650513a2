"""The report of a dataset: what came in, what went where and why, and whether something is wrong."""
