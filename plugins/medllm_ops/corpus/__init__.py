"""The corpus: versioned tables of records, with every change and where it came from.

Only :mod:`medllm_ops.corpus.table` knows that the tables are Lance's.
"""
