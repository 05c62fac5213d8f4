"""The emulated sign-in host: clients, users, tokens, and the endpoints of OAuth 2.0."""
