"""`gasearch potential`: list, test, compare, train, embed, trust; what they do lives elsewhere."""
