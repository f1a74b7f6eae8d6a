"""PaiNN and cPaiNN: the networks, and their weights from files of other packages."""
