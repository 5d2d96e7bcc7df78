"""What a user calls: the classes, their arguments and outputs, loading, saving and changing a model.

The mathematics is in :mod:`minizha.nezha`; these files come after it in the reading order in README.md.
"""
