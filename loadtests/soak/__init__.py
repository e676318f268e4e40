"""Everything at once for as long as one likes, and the books at its end.

A real Parallax of two workers serves A/B arms with a good and a bad shadow, faults that begin and end, reloads,
workers and an analyst that are killed, model servers that misbehave, and callers of every kind. At the end every
request that was sent must be accounted for, in the callers' books, in the log and in the metrics, and no memory,
descriptor or process may be left.
"""
