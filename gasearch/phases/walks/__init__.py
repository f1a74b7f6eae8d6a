"""Monte Carlo walks of a Hamiltonian in one large cell, and what is measured on the way."""
