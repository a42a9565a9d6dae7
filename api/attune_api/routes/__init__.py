"""What can be called over HTTP. Each route reads the request, asks one of the other packages, and answers."""
