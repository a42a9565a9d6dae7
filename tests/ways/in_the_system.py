"""Ways that lie in Attune itself, or in the cluster: no other way runs meanwhile."""
