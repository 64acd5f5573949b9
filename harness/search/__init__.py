"""Search a policy under a BitOPs budget by inference alone; the engine is in Rust."""
