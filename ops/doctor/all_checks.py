"""Every check of `saga doctor`, in the order of display. A check comes after those that it requires."""

from ops.doctor import broker, database, machine
from ops.doctor.check import Check

BROKER = ("broker", "broker user")
DATABASE = ("database", "database user", "replica set")
NO_BROKER_ANSWER = "The broker is reachable but did not answer. See its log, and check whether it is short of memory or disk."
NO_DATABASE_ANSWER = "The database is reachable but the request failed. See its log."

ALL_CHECKS = (
    Check("broker", broker.reachable),
    Check("broker user", broker.user, ("broker",), NO_BROKER_ANSWER),
    Check("broker version", broker.version, BROKER, NO_BROKER_ANSWER),
    Check("topology", broker.topology, BROKER, NO_BROKER_ANSWER),
    Check("consumers", broker.consumers, BROKER, NO_BROKER_ANSWER),
    Check("dead letters", broker.dead_letters, BROKER, NO_BROKER_ANSWER),
    Check("database", database.reachable),
    Check("database user", database.user, ("database",), NO_DATABASE_ANSWER),
    Check("replica set", database.replica_set, ("database", "database user"), NO_DATABASE_ANSWER),
    Check("transactions", database.transactions, DATABASE, NO_DATABASE_ANSWER),
    Check("durable commits", database.durable_commits),
    Check("inbox key", database.inbox_key, DATABASE, NO_DATABASE_ANSWER),
    Check("bindings", broker.bindings, DATABASE, NO_DATABASE_ANSWER),
    Check("clock of the database", database.clock, DATABASE, NO_DATABASE_ANSWER),
    Check("clocks of the workers", database.worker_clocks, DATABASE, NO_DATABASE_ANSWER),
    Check("payment gateway", machine.gateway),
    Check("gateway faults", machine.gateway_faults, ("payment gateway", *DATABASE), NO_DATABASE_ANSWER),
    Check("memory", machine.memory),
    Check("docker", machine.docker),
)
