"""Ground states of mixed-valence battery cathodes: working-ion and charge order, searched together.

Nothing heavy is imported here: `import gasearch` brings no torch, pymatgen or potential.
"""

__version__ = "0.1.0"
