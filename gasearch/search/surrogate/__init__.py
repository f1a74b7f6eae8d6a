"""A linear model of energies, learned from the run's own results, on features of decorations."""
