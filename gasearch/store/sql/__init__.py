"""Rows, queries and transactions that both kinds of database share."""
