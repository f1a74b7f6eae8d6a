"""Energies, forces, stresses and moments of decorated structures.

The contract, the potentials without a network, and the registry. An architecture is a folder that
declares itself as `ARCHITECTURES`; what all networks share is in `networks`. Nothing here relaxes.
"""
