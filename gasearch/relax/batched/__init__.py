"""Many structures relaxed at once, each as if it were alone."""
