"""Files that both Asterisks get."""
