"""The deterministic simulator: the real workers on in-memory back ends and virtual time, with faults drawn from a seed.

`plan` draws what a seed means, `ports` and `gateway` apply faults, `cluster` runs the workers, `nemesis` causes the timed faults,
`history` records, `checkers` judge every step, `run` runs one plan, `shrink` finds the faults that matter, `campaign` runs many
seeds.
"""
