"""Settings: the schema with its defaults, recipes in YAML, checks."""
