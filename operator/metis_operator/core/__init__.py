"""What the controller decides, free of any client, clock or I/O.

``values`` -> ``manifests`` -> ``plan`` -> ``health`` -> ``conditions``: each step is a function
of plain data, so that every decision can be tested without a cluster.
"""
