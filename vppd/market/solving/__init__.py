"""Plans, forecasts and books: the sums of the market, made in a short-lived process of its own."""
