"""Files, and the promises made about them: where each goes, how it is verified, when it may be deleted."""
