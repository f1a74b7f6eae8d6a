"""The learning loop: searches, the DFT that they deserve, and what is learned from it.

`expected/` has what few DFT energies say of a potential's hull; here are the rounds that follow.
Promotion and DFT jobs are in `dft`, the fit of networks is in `training`, searches in `search`.
"""
