"""Many relaxations at once on one device; what a structure becomes depends on that one alone."""
