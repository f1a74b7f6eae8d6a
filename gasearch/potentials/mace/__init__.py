"""MACE: the network, and its weights from files of other packages."""
