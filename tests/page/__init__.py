"""The page ring: a real browser."""
