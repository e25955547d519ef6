"""Tables of finished runs, and paired comparisons of their rows."""
