"""The page of the demo: `layout.Page` builds it, `steps/` are its three steps, `work/` is what a visitor has.

Imports go one way: `work`, `view`, `models`, `wiring`, `steps`, `layout`.
"""
