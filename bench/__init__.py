"""Benchmarks: each is a command that prints ratios measured in one run; absolute times are for
orientation only.
"""
