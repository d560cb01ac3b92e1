"""What every layer may use and what depends on none of them: errors, values, units, settings."""
