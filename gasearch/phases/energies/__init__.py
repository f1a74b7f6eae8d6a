"""A Hamiltonian of all supercells: clusters, screened charges, and the fit to what was searched."""
