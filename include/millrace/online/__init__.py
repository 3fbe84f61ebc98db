"""Feature rows of entities, read from the online stores without Feast: what a server does for each request."""
