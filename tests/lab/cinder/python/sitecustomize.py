"""Lets several Cinder processes write to one SQLite file. Python imports this module at its start.

A transaction that reads first and then writes fails at once if another process wrote in between: SQLite cannot make
the transaction wait. A transaction that takes the write lock at its beginning waits for the lock.
"""

try:
    from sqlalchemy import Engine, event
except ImportError:
    pass
else:

    @event.listens_for(Engine, "before_cursor_execute", retval=True)
    def begin_by_locking(_connection, _cursor, statement, parameters, _context, _many):
        return ("BEGIN IMMEDIATE" if statement == "BEGIN" else statement), parameters
