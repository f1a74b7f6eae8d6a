"""Operators of the search: what can be done to the working-ion and the charge order of a cathode."""
