"""Measures how accurate the feature jobs are, on sound whose truth is known, beside reference
implementations in the same run.
"""
