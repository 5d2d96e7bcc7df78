"""Kernels that execute pages run on this machine only, and keep nothing."""

c = get_config()  # noqa: F821  # IPython defines it
c.Application.log_level = 40  # errors
c.HistoryManager.enabled = False
