"""`gasearch potential`: list, test, compare, train, embed, trust. Trainings: `gasearch.training`."""
