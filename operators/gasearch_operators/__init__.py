"""Operators of the search: what can be done to the working-ion and the charge order of a cathode.

Each is registered in the entry-point group `gasearch.operators`, as those of other packages are.
None is a formula for one material: they ask the host which species fit on which site.
"""
