"""`rainpp watch` and `rainpp serve`: monitors, alarms, hooks and sources from one TOML file."""
