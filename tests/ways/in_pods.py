"""Ways that lie in a Sensor's pods, or in the namespace that they should run in."""
