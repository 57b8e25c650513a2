"""The report of a run: what it did, what it proves, and whether every gate passed."""
