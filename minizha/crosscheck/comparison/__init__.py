"""The comparison of two traces, one array at a time.

Read differences (the results), visible, measure, precision, terms, rounding (what rounding does),
verdict (when an array is equal), overall and local (its two tests), layouts, matching (which array is
which), judging, errors, counts, location (where an array differs), remarks.
"""
