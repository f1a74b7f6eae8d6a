"""Operators of the search: what can be done to the working-ion and the charge order of a cathode.

Each is registered as an entry point of the group `gasearch.operators`, as a stranger's would be.
None is a formula for one material: they ask the host which species fit on which site.
"""
