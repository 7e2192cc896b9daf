"""The simulated telescope as an agent."""
