"""A small stand-in for the Python library, written for the tests of this module.

It reads and writes the tables as eventsourcing 9.2 with eventsourcing_django
does: the same layout of states, the same topics, one INSERT for each event
under LOCK TABLE, one row of notification_tracking for each notification, and no
lock of a position. It is no copy of that library: it has the three aggregates
of the databases in gormstore/testdata/python and no others.

usage: library.py [--compressor zlib] [--key KEY] DATABASE COMMAND [ARGUMENT...]

DATABASE is the path of an SQLite file or the address of a PostgreSQL database.
Commands print one JSON document.
"""

import argparse
import base64
import datetime
import decimal
import importlib
import inspect
import json
import os
import sqlite3
import sys
import time
import types
import uuid
import zlib


# Values and states.


def encode_special(value):
    if isinstance(value, uuid.UUID):
        return {"_type_": "uuid_hex", "_data_": value.hex}
    if isinstance(value, datetime.datetime):
        return {"_type_": "datetime_iso", "_data_": value.isoformat()}
    if isinstance(value, decimal.Decimal):
        return {"_type_": "decimal_str", "_data_": str(value)}
    raise TypeError(f"no transcoding for {type(value)}")


def decode_special(found):
    if set(found) != {"_type_", "_data_"}:
        return found
    decoders = {
        "uuid_hex": uuid.UUID,
        "datetime_iso": datetime.datetime.fromisoformat,
        "decimal_str": decimal.Decimal,
    }
    return decoders[found["_type_"]](found["_data_"])


class Mapper:
    def __init__(self, compressor, key):
        self.compressor = compressor
        self.aes = None
        if key:
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM

            self.aes = AESGCM(base64.b64decode(key))

    def to_state(self, attributes):
        text = json.dumps(attributes, separators=(",", ":"), ensure_ascii=False, default=encode_special)
        state = text.encode("utf8")
        if self.compressor == "zlib":
            state = zlib.compress(state)
        if self.aes:
            nonce = os.urandom(12)
            sealed = self.aes.encrypt(nonce, state, None)
            state = nonce + sealed[-16:] + sealed[:-16]
        return state

    def from_state(self, state):
        state = bytes(state)
        if self.aes:
            state = self.aes.decrypt(state[:12], state[28:] + state[12:28], None)
        if self.compressor == "zlib":
            state = zlib.decompress(state)
        return json.loads(state.decode("utf8"), object_hook=decode_special)


def describe(value):
    """A value with its type, as JSON can say it."""
    if isinstance(value, dict):
        return {key: describe(member) for key, member in value.items()}
    if isinstance(value, list):
        return [describe(member) for member in value]
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, datetime.datetime):
        return "datetime " + value.isoformat()
    return f"{type(value).__name__} {value if isinstance(value, uuid.UUID) else repr(value)}"


# The domain, under the topics that the databases have.


def resolve_topic(topic):
    module, _, name = topic.partition(":")
    found = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return found


def only_parameters(function, attributes):
    names = inspect.signature(function).parameters
    return {name: value for name, value in attributes.items() if name in names}


class Aggregate:
    class_version = 1

    def __init__(self):
        pass


class Event:
    """An event that calls the method it is named after."""

    def __init__(self, attributes):
        self.__dict__.update(attributes)


def event(name, method, created=False):
    def mutate(self, aggregate):
        attributes = dict(self.__dict__)
        if created:
            cls = resolve_topic(attributes.pop("originator_topic"))
            aggregate = object.__new__(cls)
            aggregate._created_on = self.timestamp
        getattr(aggregate, method)(**only_parameters(getattr(aggregate, method), attributes))
        aggregate._modified_on = self.timestamp
        return aggregate

    return type(name, (Event,), {"mutate": mutate, "created": created})


class Dog(Aggregate):
    def __init__(self, name):
        self.name = name
        self.tricks = []

    def add_trick(self, trick):
        self.tricks.append(trick)

    Registered = event("Registered", "__init__", created=True)
    TrickAdded = event("TrickAdded", "add_trick")


class Visit(Aggregate):
    def __init__(self, dog_id, at, fee, notes):
        self.dog_id, self.at, self.fee, self.notes = dog_id, at, fee, notes

    def change_fee(self, fee):
        self.fee = fee

    Booked = event("Booked", "__init__", created=True)
    FeeChanged = event("FeeChanged", "change_fee")


class Counter(Aggregate):
    def __init__(self, trick):
        self.trick = trick
        self.count = 0

    def increment(self):
        self.count += 1

    Created = event("Created", "__init__", created=True)
    Incremented = event("Incremented", "increment")


class Snapshot(Event):
    def mutate(self, _):
        cls = resolve_topic(self.topic)
        aggregate = object.__new__(cls)
        state = dict(self.state)
        if state.pop("class_version", 1) != cls.class_version:
            raise ValueError("a snapshot of another class_version")
        aggregate.__dict__.update(state)
        return aggregate


DOMAIN = "training_school.domain"
for module, names in {
    "training_school": {},
    DOMAIN: {"Dog": Dog, "Visit": Visit, "Counter": Counter},
    "eventsourcing": {},
    "eventsourcing.domain": {"Snapshot": Snapshot},
}.items():
    sys.modules[module] = types.ModuleType(module)
    sys.modules[module].__dict__.update(names)


# Tables.


class Store:
    def __init__(self, address, mapper):
        self.mapper = mapper
        self.whole = False  # whether a transaction is open for all that is recorded
        self.postgres = address.startswith("postgres")
        if self.postgres:
            import psycopg2

            self.db = psycopg2.connect(address)
            self.db.autocommit = True
            self.Error = psycopg2.Error
            self.IntegrityError = psycopg2.IntegrityError
        else:
            self.db = sqlite3.connect(address, timeout=30, isolation_level=None)
            self.Error = sqlite3.Error
            self.IntegrityError = sqlite3.IntegrityError

    def execute(self, query, *arguments):
        if self.postgres:
            query = query.replace("?", "%s")
        cursor = self.db.cursor()
        cursor.execute(query, arguments)
        return cursor

    def rows(self, query, *arguments):
        return self.execute(query, *arguments).fetchall()

    def id(self, value):
        return str(value) if self.postgres else value.hex

    def record(self, application, events, tracking=None):
        """Stores events and a position in one transaction, as the library does, or in the one that is open."""
        if self.whole:
            self.insert(application, events, tracking)
            return
        self.execute("BEGIN")
        try:
            self.insert(application, events, tracking)
            self.execute("COMMIT")
        except Exception:
            self.execute("ROLLBACK")
            raise

    def insert(self, application, events, tracking):
        if self.postgres and events:
            self.execute("LOCK TABLE stored_events IN EXCLUSIVE MODE")
        for originator, version, topic, state in events:
            self.execute(
                "INSERT INTO stored_events (application_name, originator_id, originator_version, topic, state)"
                " VALUES (?, ?, ?, ?, ?)",
                application, self.id(originator), version, topic, state,
            )
        if tracking:
            self.execute(
                "INSERT INTO notification_tracking (application_name, upstream_application_name, notification_id)"
                " VALUES (?, ?, ?)",
                application, *tracking,
            )

    def position(self, application, upstream):
        query = "SELECT MAX(notification_id) FROM notification_tracking WHERE application_name = ? AND upstream_application_name = ?"
        return self.rows(query, application, upstream)[0][0] or 0

    def notifications(self, application, after, limit):
        return self.rows(
            "SELECT id, originator_id, originator_version, topic, state FROM stored_events"
            " WHERE application_name = ? AND id > ? ORDER BY id LIMIT ?",
            application, after, limit,
        )

    def read(self, topic, state):
        return resolve_topic(topic)(self.mapper.from_state(state))

    def rebuild(self, application, originator, until=None, use_snapshots=True):
        """The aggregate and its version, from the newest snapshot and what follows."""
        until = until or 2**62
        aggregate, version = None, 0
        if use_snapshots:
            for version, topic, state in self.rows(
                "SELECT originator_version, topic, state FROM snapshots WHERE application_name = ? AND originator_id = ?"
                " AND originator_version <= ? ORDER BY originator_version DESC LIMIT 1",
                application, self.id(originator), until,
            ):
                aggregate = self.read(topic, state).mutate(None)
        for version, topic, state in self.rows(
            "SELECT originator_version, topic, state FROM stored_events WHERE application_name = ? AND originator_id = ?"
            " AND originator_version > ? AND originator_version <= ? ORDER BY originator_version",
            application, self.id(originator), version, until,
        ):
            aggregate = self.read(topic, state).mutate(aggregate)
        return aggregate, version

    def new_event(self, originator, version, topic, **attributes):
        now = datetime.datetime.now(datetime.timezone.utc)
        state = {"timestamp": now}
        if resolve_topic(topic).created:
            state["originator_topic"] = topic.rpartition(".")[0]
        return originator, version, topic, self.mapper.to_state({**state, **attributes})

    def take_snapshot(self, application, originator):
        aggregate, version = self.rebuild(application, originator)
        attributes = dict(aggregate.__dict__)
        state = {name: attributes.pop(name) for name in ("_created_on", "_modified_on")}
        topic = f"{DOMAIN}:{type(aggregate).__name__}"
        now = datetime.datetime.now(datetime.timezone.utc)
        self.execute(
            "INSERT INTO snapshots (application_name, originator_id, originator_version, topic, state) VALUES (?, ?, ?, ?, ?)",
            application, self.id(originator), version, "eventsourcing.domain:Snapshot",
            self.mapper.to_state({"timestamp": now, "topic": topic, "state": {**state, **attributes}}),
        )


def create_id(kind, name):
    return uuid.uuid5(uuid.NAMESPACE_URL, f"/{kind}/{name}")


# Commands.


def read(store):
    """Everything that is stored, with types, and every aggregate at its every version, with and without snapshots."""
    events, originators, aggregates, history = [], {}, [], []
    for id, application, originator, version, topic, state in store.rows(
        "SELECT id, application_name, originator_id, originator_version, topic, state FROM stored_events ORDER BY id"
    ):
        attributes = store.mapper.from_state(state)
        if "originator_topic" in attributes:
            resolve_topic(attributes["originator_topic"])
        resolve_topic(topic)
        events.append({"id": id, "application": application, "originator": str(uuid.UUID(str(originator))),
                       "version": version, "topic": topic, "state": describe(attributes)})
        originators.setdefault((application, uuid.UUID(str(originator))), []).append(version)
    for (application, originator), versions in originators.items():
        for version in versions:
            with_snapshots, reached = store.rebuild(application, originator, version)
            without, _ = store.rebuild(application, originator, version, use_snapshots=False)
            if describe(with_snapshots.__dict__) != describe(without.__dict__) or reached != version:
                raise ValueError(f"{originator} at {version}: {with_snapshots.__dict__} from a snapshot, {without.__dict__} from events")
            history.append({"application": application, "originator": str(originator), "version": reached,
                            "class": type(with_snapshots).__name__, "state": describe(with_snapshots.__dict__)})
        aggregates.append(history[-1])
    snapshots = [
        {"originator": str(uuid.UUID(str(originator))), "version": version, "topic": topic,
         "state": describe(store.mapper.from_state(state))}
        for originator, version, topic, state in store.rows(
            "SELECT originator_id, originator_version, topic, state FROM snapshots ORDER BY originator_id, originator_version")
    ]
    tracking = [
        {"application": application, "upstream": upstream, "rows": rows, "position": position}
        for application, upstream, rows, position in store.rows(
            "SELECT application_name, upstream_application_name, COUNT(*), MAX(notification_id) FROM notification_tracking"
            " GROUP BY 1, 2 ORDER BY 1, 2")
    ]
    return {"events": events, "aggregates": aggregates, "history": history, "snapshots": snapshots, "tracking": tracking}


def values(store):
    """The states of all events, with the types of their values; topics need not be known."""
    return [describe(store.mapper.from_state(state)) for (state,) in store.rows("SELECT state FROM stored_events ORDER BY id")]


def register(store, name):
    dog = create_id("dogs", name)
    store.record("TrainingSchool", [store.new_event(dog, 1, DOMAIN + ":Dog.Registered", name=name)])


def register_many(store, name, n):
    for number in range(int(n)):
        register(store, f"{name} {number}")


def add_tricks(store, name, *tricks):
    dog = create_id("dogs", name)
    _, version = store.rebuild("TrainingSchool", dog)
    for number, trick in enumerate(tricks, version + 1):
        store.record("TrainingSchool", [store.new_event(dog, number, DOMAIN + ":Dog.TrickAdded", trick=trick)])


def snapshot(store, name):
    store.take_snapshot("TrainingSchool", create_id("dogs", name))


def process(store, notification, policy):
    """Counts tricks, or makes a counter of its own for each notification, which no unique key keeps from being made twice."""
    id, _, _, topic, state = notification
    events = []
    if policy == "each":
        events.append(store.new_event(uuid.uuid4(), 1, DOMAIN + ":Counter.Created", trick=str(id)))
    elif topic == DOMAIN + ":Dog.TrickAdded":
        trick = store.mapper.from_state(state)["trick"]
        counter = create_id("counters", trick)
        aggregate, version = store.rebuild("Counters", counter)
        if aggregate is None:
            version = 1
            events.append(store.new_event(counter, 1, DOMAIN + ":Counter.Created", trick=trick))
        events.append(store.new_event(counter, version + 1, DOMAIN + ":Counter.Incremented"))
    store.record("Counters", events, ("TrainingSchool", id))


def lag(page, release_file):
    """Says in a file that the first page was read, and waits until another file exists, if one is given."""
    if not page or not release_file or os.path.exists(release_file):
        return
    with open(release_file + ".read", "w"):
        pass
    while not os.path.exists(release_file):
        time.sleep(0.001)


def follow(store, stop_file="", policy="count", release_file=""):
    """Processes all notifications, and goes on until a file exists if one is given. It may lag behind its first page."""
    processed = overtaken = 0
    while True:
        page = store.notifications("TrainingSchool", store.position("Counters", "TrainingSchool"), 10)
        if not page and (not stop_file or os.path.exists(stop_file)):
            return {"processed": processed, "overtaken": overtaken}
        if not page:
            time.sleep(0.001)
        lag(page, release_file)
        for notification in page:
            try:
                process(store, notification, policy)
                processed += 1
            except store.IntegrityError:
                overtaken += 1
                break


def sync(store, stop_file, policy="count", release_file=""):
    """Processes all notifications again and again until a file exists, each time in one transaction, as sync_followers does."""
    processed, failed, store.whole = 0, {}, True
    while True:
        last = os.path.exists(stop_file)
        try:
            store.execute("BEGIN")
            page = store.notifications("TrainingSchool", store.position("Counters", "TrainingSchool"), 1000)
            lag(page, release_file)
            for notification in page:
                process(store, notification, policy)
            store.execute("COMMIT")
            processed += len(page)
        except store.Error as error:
            store.execute("ROLLBACK")
            failed[type(error).__name__] = failed.get(type(error).__name__, 0) + 1
            last = False
        if last:
            return {"processed": processed, "failed": failed}
        time.sleep(0.001)


def hold(store, name, notification, stop_file):
    """A transaction that registers a dog, passes a notification, and commits when a file exists, as a long sync_followers does."""
    store.execute("BEGIN")
    if store.postgres:
        store.execute("LOCK TABLE stored_events IN EXCLUSIVE MODE")
    originator, version, topic, state = store.new_event(create_id("dogs", name), 1, DOMAIN + ":Dog.Registered", name=name)
    store.execute(
        "INSERT INTO stored_events (application_name, originator_id, originator_version, topic, state) VALUES (?, ?, ?, ?, ?)",
        "TrainingSchool", store.id(originator), version, topic, state,
    )
    store.execute(
        "INSERT INTO notification_tracking (application_name, upstream_application_name, notification_id) VALUES (?, ?, ?)",
        "Counters", "TrainingSchool", int(notification),
    )
    with open(stop_file + ".held", "w"):
        pass
    while not os.path.exists(stop_file):
        time.sleep(0.001)
    store.execute("COMMIT")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--compressor")
    parser.add_argument("--key")
    parser.add_argument("database")
    parser.add_argument("command")
    parser.add_argument("arguments", nargs="*")
    given = parser.parse_args()
    store = Store(given.database, Mapper(given.compressor, given.key))
    commands = {function.__name__: function for function in (read, values, register, register_many, add_tricks, snapshot, follow, sync, hold)}
    print(json.dumps(commands[given.command](store, *given.arguments)))


if __name__ == "__main__":
    main()
