"""What is measured of a potential before a search: charge awareness, stress, level of theory."""
