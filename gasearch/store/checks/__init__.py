"""Proofs that a database is whole: hashes, lineage, events, promotions. They change nothing."""
