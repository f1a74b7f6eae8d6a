"""What a search has found: findings, hulls, voltages, thermodynamics, lineage, exports.

Reads databases, changes none.
"""
