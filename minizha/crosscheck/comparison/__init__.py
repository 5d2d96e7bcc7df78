"""The comparison of two traces, one array at a time.

Read differences (the results), visible, measure, noise (what counts as equal), layouts, matching
(which array is which), counts, location (where an array differs), remarks.
"""
