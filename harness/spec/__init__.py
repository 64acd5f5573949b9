"""Plain data without torch: networks, policies, costs, budgets, configuration and run folders."""
