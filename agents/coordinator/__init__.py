"""The commensal coordinator."""
