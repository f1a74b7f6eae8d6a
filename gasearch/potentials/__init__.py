"""Energies, forces, stresses and moments of decorated structures.

The contract, the potentials without a network, and the registry; networks have folders of
their own. Nothing here relaxes.
"""
