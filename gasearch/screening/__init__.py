"""Which of many possible candidates deserves the next relaxation."""
