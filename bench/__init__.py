"""Benchmarks: each is a command that prints ratios measured in one run; absolute times only give
the order of magnitude.
"""
