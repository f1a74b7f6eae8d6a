"""The population database: one file that holds a whole search and survives its death."""
