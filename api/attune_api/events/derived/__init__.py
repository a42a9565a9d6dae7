"""What sensors keep of their rules; and, for rules about other rules' events, reading these."""
