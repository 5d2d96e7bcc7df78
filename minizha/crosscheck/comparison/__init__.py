"""The comparison of two traces, one array at a time.

Read differences (the results), visible, measure, precision; terms, rounding (what rounding does),
overall, local (the two tests of an array), verdict (what counts as equal), errors (all causes);
layouts, matching (which array is which); counts, location (where an array differs); remarks.
"""
