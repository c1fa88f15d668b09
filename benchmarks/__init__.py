"""What the package costs, measured against its peers and the raw limit in the same run: ``make bench``."""
