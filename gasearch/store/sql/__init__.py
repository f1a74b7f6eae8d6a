"""Rows, queries and transactions that both kinds of database share.

Nothing here opens a database or knows which kind it is.
"""
