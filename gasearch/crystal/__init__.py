"""Species, hosts, decorations and their symmetry: what may sit where, counted exactly.

No energies here.
"""
