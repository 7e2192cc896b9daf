"""BDF publisher agent."""
