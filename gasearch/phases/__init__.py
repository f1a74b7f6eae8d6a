"""From a search's energies to a temperature-composition diagram: one Hamiltonian, Monte Carlo."""
