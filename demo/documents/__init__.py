"""Documents that several people write."""
