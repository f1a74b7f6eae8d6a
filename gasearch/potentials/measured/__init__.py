"""What is measured of a potential before a search relies on it: charges, stress, level of theory."""
