"""Runs when a kernel starts that executes a page."""

from minizha_book.pictures import show_as_svg

show_as_svg(get_ipython())  # noqa: F821  # the shell defines it
