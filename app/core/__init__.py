"""What every layer may use: settings, logging, authentication, metrics."""
