"""The population database: a file, or a schema of a server, that holds a whole search.

`population_store` opens one and is what the rest of gasearch uses; what is asked of it beyond that
is in `activity`, `promotions`, `dft_jobs` and `checks`. Nothing here knows how a search proposes.
"""
