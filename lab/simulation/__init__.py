"""The deterministic simulator: the real workers on parts in memory, on virtual time, with faults that one seed decides.

`plan` draws what a seed means, `ports` and `gateway` let faults act, `world` runs the workers, `history` and
`checkers` judge every step, `run` puts one seed together, `shrink` finds the faults that matter, `campaign` runs many seeds.
"""
