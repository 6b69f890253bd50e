"""How the tables of the control database came to be, revision by revision; Alembic runs them, see `ekiben.state.migrating`.

A migration only adds. So workers of an older version go on with a newer database while an upgrade rolls through them, and
there is no way down, as nobody needs one.
"""
