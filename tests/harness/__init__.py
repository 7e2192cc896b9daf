"""What tests share: live services, leak checks, required programs."""
