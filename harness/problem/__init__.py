"""The problem of the search, as plain data: a network, its policies, what they cost, a budget."""
