"""What an operator is, and how those of ase_ga run on a host's sites.

The operators themselves are plug-ins in `gasearch_operators`.
"""
