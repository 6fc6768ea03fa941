"""Memory in Postgres: many tenants in one database, `tenfold.memory.postgres.store.PostgresStore`.

Whatever was said is sealed before it leaves this process, each event under a key of its own; the
keys are in files beside the database (`keys`), and erasing destroys them there. What the server
keeps of erased rows in its write-ahead log, in dead tuples and in backups opens for nobody then.
"""
