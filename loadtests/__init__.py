"""Load: the demo, the side-by-side benchmark and the replay client.

Nothing of the product may import from here, and nothing here is installed with it.
"""
