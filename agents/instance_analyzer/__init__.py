"""The analyzer of one processing instance as an agent."""
