"""The learning loop: searches, the DFT that they deserve, and what is learned from it.

Here live what few DFT energies say of a potential's hull (`correction`) and the rounds that follow.
Promotion and DFT jobs are in `dft`, the fit of networks is in `training`, searches in `search`.
"""
