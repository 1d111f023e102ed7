"""Lets several of Cinder's processes write to one SQLite file; Python imports this by itself when it starts.

A transaction that begins by reading and goes on to write fails at once if another process wrote in between: SQLite
cannot let it wait. One that takes the write lock at its beginning waits for it.
"""

try:
    from sqlalchemy import Engine, event
except ImportError:
    pass
else:

    @event.listens_for(Engine, "before_cursor_execute", retval=True)
    def begin_by_locking(_connection, _cursor, statement, parameters, _context, _many):
        return ("BEGIN IMMEDIATE" if statement == "BEGIN" else statement), parameters
