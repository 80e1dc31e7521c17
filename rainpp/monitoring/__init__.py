"""Standing queries as a user meets them: monitors, batches, alarms, and the rows behind them."""
