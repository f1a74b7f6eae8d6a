"""From labelled frames to a charge-aware potential: reading, splitting, training, testing."""
