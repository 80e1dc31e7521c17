"""Standing queries over growing tables: additive state, windows, detection."""
