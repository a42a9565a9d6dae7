"""What a sensor needs whose rules are about other rules' events: reading these, and keeping what it remembers of them."""
