"""Authentication: static bearer tokens and OAuth access tokens."""
