"""Instance recorder agent."""
