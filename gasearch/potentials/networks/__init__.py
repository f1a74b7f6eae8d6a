"""What all networks share: slots, checkpoints, model cards, and how one becomes a potential."""
