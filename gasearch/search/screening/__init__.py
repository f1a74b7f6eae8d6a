"""Which of many possible candidates is relaxed next.

The model that ranks them lives in `surrogate`.
"""
