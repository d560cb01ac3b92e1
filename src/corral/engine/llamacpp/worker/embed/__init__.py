"""Jobs that make vectors of texts, or score them against a query."""
