import msgspec
from sqlalchemy import select, update

from ekiben.state.events import Event
from ekiben.state.keys import ApiKey
from ekiben.state.schema import KEYS
from ekiben.state.sql_keys import SqlKeys

EVENT = Event(time=5.0, who="kim@desk", model="", kind="key-created", message="made")
KEY = ApiKey(prefix="ab12cd34", name="site", digest="00" * 32, scopes=("predict",), created=5.0, created_by="kim@desk")


def test_what_only_a_newer_version_knows_of_a_key_stays(database):
    keys = SqlKeys(database)
    keys.keep([KEY], event=EVENT)
    with database.writing() as connection:
        newer = {**msgspec.to_builtins(KEY), "allowed_from": ["10.0.0.0/8"]}
        connection.execute(update(KEYS).values(body=msgspec.json.encode(newer).decode()))
    [read] = keys.all()
    assert keys.keep([msgspec.structs.replace(read, revoked=6.0)], event=EVENT)
    [row] = database.read(select(KEYS.c.body))
    body = msgspec.json.decode(row.body)
    assert (body["allowed_from"], body["revoked"]) == (["10.0.0.0/8"], 6.0)
