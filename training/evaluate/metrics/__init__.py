"""The metrics of the report as pure functions of arrays; each is proven on data whose answer is known."""
