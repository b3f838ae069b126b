"""Ways in that are not plain TCP: they end a transport and feed the engine's second door."""
