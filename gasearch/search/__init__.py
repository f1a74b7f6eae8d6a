"""The search: what is proposed next, from what is known, until it ends; resumed and replayed."""
