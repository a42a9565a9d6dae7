"""Installs the chart in the cluster of this checkout, applies the sample pack and shows the events as they come."""
