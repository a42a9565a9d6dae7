"""HTTP/1.1 as this sensor serves it: the protocol over httptools' parser, requests and answers as values."""
