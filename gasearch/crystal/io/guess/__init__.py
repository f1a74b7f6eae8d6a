"""What a structure file suggests of a host: oxidation states, ions on sites, sublattices."""
