"""Every check of `saga doctor`, in the order in which they are shown and need each other."""

from ops.doctor import broker, database, machine
from ops.doctor.check import Check

BROKER = ("broker", "broker user")
DATABASE = ("database", "database user", "replica set")
LOOK = "The broker was there and gave no answer: see its log, and whether it is short of memory or disk."
ASK_DATABASE = "The database was there and did not do it: see its log."

PLAN = (
    Check("broker", broker.reachable),
    Check("broker user", broker.user, ("broker",), LOOK),
    Check("broker version", broker.version, BROKER, LOOK),
    Check("topology", broker.topology, BROKER, LOOK),
    Check("consumers", broker.consumers, BROKER, LOOK),
    Check("dead letters", broker.dead_letters, BROKER, LOOK),
    Check("database", database.reachable),
    Check("database user", database.user, ("database",), ASK_DATABASE),
    Check("replica set", database.replica_set, ("database", "database user"), ASK_DATABASE),
    Check("transactions", database.transactions, DATABASE, ASK_DATABASE),
    Check("durable commits", database.durable_commits),
    Check("inbox key", database.inbox_key, DATABASE, ASK_DATABASE),
    Check("bindings", broker.bindings, DATABASE, ASK_DATABASE),
    Check("clock of the database", database.clock, DATABASE, ASK_DATABASE),
    Check("clocks of the workers", database.workers_clocks, DATABASE, ASK_DATABASE),
    Check("payment gateway", machine.gateway),
    Check("gateway faults", machine.gateway_faults, ("payment gateway", *DATABASE), ASK_DATABASE),
    Check("memory", machine.memory),
    Check("docker", machine.docker),
)
