"""``kubectl metis`` and ``python -m metis_operator``: what a person does with the operator.

One module a command, each with NAME, SUMMARY, ``configure(parser)`` and ``run(context)``; see
``command.py``. Decisions and layout are pure functions of plain data; ``reach.py`` alone speaks
to a cluster.
"""
