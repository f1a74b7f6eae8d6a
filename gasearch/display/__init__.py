"""Tables, plots and progress in a terminal. What is shown is computed elsewhere."""
