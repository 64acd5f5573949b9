"""Search a policy within a budget by inference alone; the engine is in Rust."""
