"""A real workload on a service of its own: from reads to variants on the lambda phage genome.

`make demo` runs it.
"""
