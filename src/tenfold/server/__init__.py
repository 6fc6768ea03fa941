"""The HTTP server: wire types, authentication, metrics, static playground."""
