"""Two traces side by side, one array at a time.

Read differences (what is found), visible, measure, noise (what counts as equal), layouts, matching
(which array is which), counts, location (where it differs), remarks.
"""
