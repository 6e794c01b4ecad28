"""Files of the carrier."""
