"""minizha's speed and memory beside other programs that compute NEZHA: ``python -m benchmarks --list``.

Read in this order: ``cases`` says what is computed, ``peers`` who computes it, ``pairs`` how two programs
are measured in turn, ``side`` what runs in each process, ``report`` and ``pictures`` what becomes of the
figures. docs/reference/performance.md explains the method and has the results.
"""
