"""Commands with options of their own."""
