"""Changes of the tables, in order; each is applied once to a database, by `open_store`."""
